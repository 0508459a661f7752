"""Torch architectures of torchvision, transformers and a few written here: import, coverage, outputs against torch.

    python -m tests.peers.architectures [NAME ...]

prints one row of a Markdown table for each. Weights are random, so that the files of nobody are needed, and drawn so
that signals keep their size through the layers; batch normalisations have statistics that are not 0 and 1.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import nn

from dchw.graph.forward import forward
from dchw.graph.network import Network

Inputs = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one network."""

    name: str
    parameters: int
    layers: int
    import_s: float
    """CPU seconds of `Network.from_module`, of the second call in the process."""
    export_s: float
    """CPU seconds of `torch.export.export` alone on the same module and input."""
    coverage: str
    difference: float
    """Largest difference of an output to torch's, as a share of its largest value."""
    notes: int

    def markdown(self) -> str:
        """The row of a table."""
        return (
            f"| {self.name} | {self.parameters:,} | {self.layers} | {self.import_s:.2f} | {self.export_s:.2f} | "
            f"{self.import_s / self.export_s:.2f} | {self.coverage} | {self.difference:.1e} | {self.notes} |"
        )


HEAD = (
    "| network | parameters | layers | import, CPU s | torch.export alone, CPU s | ratio | coverage | "
    "largest difference to torch | lines of notes |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


class UNet(nn.Module):
    """Ronneberger et al., arXiv:1505.04597, at a small size: down by pooling, up by transposed convolutions."""

    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        sizes = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(self._twice(a, b) for a, b in zip([3, *sizes], sizes, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(sizes))
        self.merge = nn.ModuleList(self._twice(2 * a, a) for a in sizes[:-1])
        self.scores = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _twice(channels: int, out: int) -> nn.Sequential:
        parts = (nn.Conv2d(channels, out, 3, 1, 1), nn.BatchNorm2d(out), nn.ReLU())
        return nn.Sequential(*parts, nn.Conv2d(out, out, 3, 1, 1), nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for level in reversed(range(len(self.up))):
            x = self.merge[level](torch.cat([kept[level], self.up[level](x)], 1))
        return self.scores(x)


class Recurrent(nn.Module):
    """A recurrent unit over 50 steps of 40 features, and class scores from its last step."""

    def __init__(self, unit: type[nn.RNNBase], **settings: object) -> None:
        super().__init__()
        self.unit = unit(40, 128, 2, batch_first=True, **settings)
        self.scores = nn.Linear(256 if self.unit.bidirectional else 128, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.unit(x)[0][:, -1])


class Logits(nn.Module):
    """A language model as a function from token numbers to scores."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model(tokens, use_cache=False).logits


def _vision(name: str) -> Callable[[], tuple[nn.Module, Inputs]]:
    def make() -> tuple[nn.Module, Inputs]:
        models = torchvision_models()
        options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
        return models.get_model(name, weights=None, **options), torch.randn(1, 3, 224, 224)

    return make


def torchvision_models() -> object:
    """`torchvision.models`; where its C extension does not fit this torch, what it declares is declared first."""
    try:
        from torchvision import models
    except RuntimeError:
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "DEF")
        for schema in _DECLARED:
            library.define(schema)
        _KEPT.append(library)
        from torchvision import models
    return models


_DECLARED = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_KEPT: list[torch.library.Library] = []  # what a library defines goes when it does


def _gpt2() -> tuple[nn.Module, Inputs]:
    torchvision_models()  # transformers imports it where it is installed
    from transformers import GPT2Config, GPT2LMHeadModel

    return Logits(GPT2LMHeadModel(GPT2Config())), torch.randint(0, 50_257, (1, 16))


ARCHITECTURES = MappingProxyType(
    {
        "MobileNetV2": _vision("mobilenet_v2"),
        "MobileNetV3-small": _vision("mobilenet_v3_small"),
        "MobileNetV3-large": _vision("mobilenet_v3_large"),
        "EfficientNet-B0": _vision("efficientnet_b0"),
        "RegNetY-400MF": _vision("regnet_y_400mf"),
        "ShuffleNetV2": _vision("shufflenet_v2_x1_0"),
        "ResNet-18": _vision("resnet18"),
        "ResNet-50": _vision("resnet50"),
        "GoogLeNet": _vision("googlenet"),
        "DenseNet-121": _vision("densenet121"),
        "ConvNeXt-tiny": _vision("convnext_tiny"),
        "ViT-B/16": _vision("vit_b_16"),
        "Swin-T": _vision("swin_t"),
        "U-Net": lambda: (UNet(), torch.randn(1, 3, 64, 64)),
        "LSTM classifier": lambda: (Recurrent(nn.LSTM), torch.randn(1, 50, 40)),
        "LSTM classifier, both directions": lambda: (Recurrent(nn.LSTM, bidirectional=True), torch.randn(1, 50, 40)),
        "GRU classifier": lambda: (Recurrent(nn.GRU), torch.randn(1, 50, 40)),
        "GPT-2 (124 M)": _gpt2,
    }
)
"""How to make each module and one input."""


def made(name: str) -> tuple[nn.Module, Inputs]:
    """The module with seeded weights in inference, and its input."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        module, inputs = ARCHITECTURES[name]()
        for part in module.modules():
            _spread(part)
    return module.eval(), inputs


def _spread(part: nn.Module) -> None:
    """Weights that keep the signal's size and normalisations with statistics, so that no output is about zero."""
    with torch.no_grad():
        if isinstance(part, nn.Conv2d | nn.Linear) and part.weight.numel():
            nn.init.kaiming_uniform_(part.weight, nonlinearity="relu")
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.7, 1.3)
        if getattr(part, "layer_scale", None) is not None:
            part.layer_scale.uniform_(0.5, 1)  # ConvNeXt's is 1e-6 before training: its blocks would do nothing


def measured(name: str) -> Row:
    """Import a network, run it and compare it with torch."""
    module, inputs = made(name)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    network = Network.from_module(module, inputs, name=name)  # the first call imports and compiles parts of torch
    seconds = {"export": [], "import": []}
    for _ in range(3):
        seconds["export"].append(_cpu_seconds(lambda: _exported(module, given)))
        seconds["import"].append(_cpu_seconds(lambda: Network.from_module(module, inputs, name=name)))
    return Row(
        name=name,
        parameters=sum(value.numel() for value in module.parameters()),
        layers=len(network.layers),
        import_s=min(seconds["import"]),
        export_s=min(seconds["export"]),
        coverage=str(network.coverage),
        difference=difference(module, network, given),
        notes=len(network.notes),
    )


def difference(module: nn.Module, network: Network, inputs: tuple[torch.Tensor, ...]) -> float:
    """Largest difference between the output of module and network, as a share of the largest value."""
    with torch.no_grad():
        wanted = module(*inputs).numpy()
    names = [operation.name for operation in network.operations if operation.kind == "input"]
    values = forward(network, {key: value.numpy() for key, value in zip(names, inputs, strict=True)})
    got = values[network.operations[-1].name]
    if got.shape != wanted.shape:
        raise ValueError(f"{network.name}: its output has the shape {got.shape}; torch's has {wanted.shape}")
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def _exported(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.export(module, inputs, strict=False)


def _cpu_seconds(call: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(HEAD)  # noqa: T201
    for chosen in sys.argv[1:] or ARCHITECTURES:
        print(measured(chosen).markdown(), flush=True)  # noqa: T201
