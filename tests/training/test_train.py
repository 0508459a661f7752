"""Does `dchw.train` compress any module, weight for weight, and say what it cannot do before it trains?"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import dchw
from dchw.config import build
from dchw.graph.forward import forward
from dchw.quantities import ConfigError, DchwError
from dchw.training.batch_norm import fold, pairs_of
from dchw.training.batches import Batching, GivenBatches, seeded
from dchw.training.course import Trained
from dchw.training.export import network_of
from dchw.training.loop import Distillation
from dchw.training.module_weights import by_name, weights_of
from dchw.training.parametrizations import attach_masks, codes_and_codebook, materialise, rebuild, share_weights
from dchw.training.recipe_file import Method, spread
from tests.training.nets import Attentive, Normalised, Tied, plain_batches

STRETCH = {"epochs": 2, "learning_rate": 0.005, "warmup_steps": 0}


def method(**changes: Any) -> Method:
    data = {
        "pruning": {"training": STRETCH, "retraining": STRETCH, "density": 0.3, "update_steps": 2},
        "sharing": {"training": STRETCH, "shared_values": 7},
        **changes,
    }
    return build(Method, data, where="method")


def trained(module: nn.Module, recipe: Any = None, batches: Any = None, **more: Any) -> Trained:
    return dchw.train(module, batches or plain_batches(), recipe or method(), loss=functional.cross_entropy, **more)


@pytest.mark.parametrize("kind", [Normalised, Attentive, Tied])
def test_what_comes_out_is_what_the_module_computes_with(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = kind()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    out = trained(module)
    state = out.compressed.decompress().state_dict()
    mine = dict(out.module.named_parameters(remove_duplicate=False))
    compressed = {layer.parameter for layer in out.compressed.decompress().layers}
    assert {weight.parameter for weight in weights_of(kind())} <= compressed
    assert out.kept == (("positions",) if kind is Attentive else ())
    for name, value in state.items():
        assert torch.equal(value, mine[name]), name
    for weight in weights_of(out.module):
        assert isinstance(weight.value, nn.Parameter)
        assert weight.value.unique().numel() <= 8
        assert int((weight.value != 0).sum()) <= round(0.3 * weight.value.numel())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_forward_pass_of_the_compressed_network_is_the_modules() -> None:
    torch.manual_seed(0)
    out = trained(Normalised())
    from dchw.graph.forward import forward

    network = out.compressed.decompress()
    inputs = plain_batches()[0][0]
    given_name = network.operations[0].name
    got = forward(network, {given_name: inputs.numpy()})[network.operations[-1].name]
    with torch.no_grad():
        expected = out.module.eval()(inputs).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_normalisation_goes_on_learning_and_is_kept() -> None:
    torch.manual_seed(0)
    module = Normalised()
    out = trained(module)
    assert not torch.equal(out.module.norm.running_mean, module.norm.running_mean)
    assert not torch.equal(out.module.norm.weight, module.norm.weight)
    assert out.module.norm.num_batches_tracked == len(plain_batches()) * 6


def test_tied_weights_stay_one() -> None:
    torch.manual_seed(0)
    out = trained(Tied())
    assert out.module.first.weight is out.module.last.weight
    assert len(weights_of(out.module)) == 2


def test_recurrent_units_compute_with_masked_and_shared_weights() -> None:
    torch.manual_seed(0)
    unit = nn.GRU(6, 5, num_layers=2, bidirectional=True, batch_first=True)
    inputs = torch.rand(3, 4, 6)
    masks = attach_masks(unit)
    assert [*masks] == [name for name, _ in unit.named_parameters() if False] or len(masks) == 8
    for mask in masks.values():
        mask.copy_((torch.rand(mask.shape) < 0.5).float())
    twin = copy.deepcopy(unit)
    plain = copy.deepcopy(unit)
    materialise(plain)
    assert all(isinstance(value, nn.Parameter) for value in plain._flat_weights)
    expected = plain(inputs)[0]
    torch.testing.assert_close(unit(inputs)[0], expected, rtol=0, atol=0)
    unit(inputs)[0].sum().backward()
    for weight in weights_of(unit):
        gradient = weight.owner.parametrizations[weight.attribute].original.grad
        assert gradient[masks[weight.name] == 0].abs().max() == 0
        assert gradient.abs().max() > 0
    codebook = np.array([0, -0.5, 0.5], np.float32)
    codes = {w.name: (np.random.default_rng(0).integers(0, 3, w.value.shape), codebook) for w in weights_of(twin)}
    share_weights(twin, codes)
    fresh = nn.GRU(6, 5, num_layers=2, bidirectional=True, batch_first=True)
    rebuild(fresh, twin.state_dict())
    torch.testing.assert_close(fresh(inputs)[0], twin(inputs)[0], rtol=0, atol=0)
    for weight in weights_of(fresh):
        np.testing.assert_array_equal(codes_and_codebook(weight)[0], codes[weight.name][0])


def test_every_weight_is_compressed_or_named_as_kept() -> None:
    class Recurrent(nn.Module):
        """A GRU over the rows of an image, with an embedding that nothing reads as a layer."""

        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(8, 6, batch_first=True, bidirectional=True)
            self.scores = nn.Linear(12, 4)
            self.start = nn.Parameter(torch.zeros(1, 8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.scores(self.gru(x.squeeze(1) + self.start)[0][:, -1])
            return scores

    torch.manual_seed(0)
    out = trained(Recurrent())
    compressed = {layer.parameter for layer in out.compressed.decompress().layers}
    matrices = {name for name, value in out.module.named_parameters() if value.dim() > 1}
    assert compressed | set(out.kept) == matrices
    assert not compressed & set(out.kept)
    assert "start" in out.kept


def test_a_plain_recipe_is_the_papers_method() -> None:
    torch.manual_seed(0)
    recipe = dchw.Recipe(density={"conv": 0.5}, codebook_bits={"conv": 3, "scores": 2})
    out = trained(Normalised(), recipe, epochs=3)
    conv, scores = (out.module.conv.weight, out.module.scores.weight)
    assert int((conv != 0).sum()) == round(0.5 * conv.numel())
    assert int((scores != 0).sum()) == scores.numel()
    assert conv.unique().numel() <= 8
    assert scores.unique().numel() <= 4
    assert [(epoch.stage, epoch.epoch) for epoch in out.history] == [("prune", 1), ("retrain", 1), ("share", 1)]
    assert all(np.isfinite(epoch.loss) for epoch in out.history)


def test_settings_by_pattern() -> None:
    names = ["blocks.0.conv", "blocks.1.conv", "scores"]
    assert by_name({"scores": 1, "blocks.*": 2}, names, "x") == {"blocks.0.conv": 2, "blocks.1.conv": 2, "scores": 1}
    # a name goes before a pattern, the first pattern before the next
    assert by_name({"*": 1, "blocks.1.*": 2, "scores": 3}, names, "x")["blocks.1.conv"] == 1
    assert by_name({"*": 1, "scores": 3}, names, "x")["scores"] == 3
    with pytest.raises(DchwError, match=r"x.blocks.7.\*: no such layer"):
        by_name({"blocks.7.*": 1, "*": 2}, names, "x")
    with pytest.raises(DchwError, match=r"x.scores: missing; add it, or '\*' for all others"):
        by_name({"blocks.*": 1}, names, "x")


def test_every_stage_is_evaluated_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    seen: list[bool] = []

    def evaluate(module: nn.Module) -> float:
        seen.append(module.training)
        return float(len(seen))

    out = trained(Normalised(), evaluate=evaluate)
    assert out.values == {"dense": 1.0, "pruned": 2.0, "shared": 3.0}
    assert not any(seen)
    assert out.compressed.results["shared"] == 3.0
    assert len(repr(out)) < 300


def test_a_dense_stage_trains_first_and_epochs_are_spread() -> None:
    torch.manual_seed(0)
    out = trained(Normalised(), method(dense={**STRETCH, "epochs": 4}), epochs=5)
    stages = [epoch.stage for epoch in out.history]
    assert stages == ["dense", "dense", "prune", "retrain", "share"]


@settings(max_examples=200, deadline=None)
@given(total=st.integers(0, 60), shares=st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_epochs_are_spread_whole_and_in_proportion(total: int, shares: list[int]) -> None:
    named = {str(i): share for i, share in enumerate(shares)}
    wanted = sum(share > 0 for share in shares)
    if total < wanted or not wanted:
        with pytest.raises(ConfigError, match="epochs: expected at least"):
            spread(total, named)
        return
    parts = spread(total, named)
    assert sum(parts.values()) == total
    for name, share in named.items():
        assert (parts[name] > 0) == (share > 0)
        if total >= sum(shares):
            assert abs(parts[name] - total * share / sum(shares)) < len(shares)


def test_several_inputs_numpy_arrays_and_a_teacher() -> None:
    class Two(nn.Module):
        """Adds what it makes of both inputs."""

        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(6, 4), nn.Linear(3, 4)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.left(a) + self.right(b)

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    batches = [
        ((rng.random((8, 6), np.float32), rng.random((8, 3), np.float32)), rng.integers(0, 4, 8)) for _ in range(4)
    ]
    out = trained(Two(), batches=batches, distil=Distillation(temperature=2, weight=0.5))
    assert [layer.name for layer in out.compressed.layers] == ["left", "right"]


def endless() -> Iterator[Any]:
    yield from plain_batches()


class Growing:
    """One batch more in every epoch."""

    def __init__(self) -> None:
        self.epochs = 0

    def __iter__(self) -> Iterator[Any]:
        self.epochs += 1
        yield from plain_batches()[: self.epochs]

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (endless(), "which ends after one pass; give a DataLoader or a list"),
        ([], "expected at least one batch; got none"),
        ([torch.zeros(4, 3)], "expected pairs .* got a tensor of shape"),
        ([("text", 1)], "expected inputs as tensors with a batch axis.* got str"),
        (7, "expected an iterable of .* got int"),
        (Growing(), "expected 1 in epoch 1, as many as at first .* got more"),
    ],
)
def test_batches_of_another_form_are_named(batches: Any, message: str) -> None:
    with pytest.raises(DchwError, match=message):
        dchw.train(Normalised(), batches, method(), loss=functional.cross_entropy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": lambda outputs, targets: outputs}, "loss: expected a tensor of one value; got"),
        ({"loss": lambda outputs, targets: outputs.sum() * float("nan")}, "the loss of step 1, epoch 1, is nan"),
        ({"evaluate": lambda module: "good"}, "evaluate: expected a number for the dense module; got str"),
        ({"device": "nowhere"}, "device 'nowhere'"),
        ({"recipe": 3}, "recipe: expected a dchw.Recipe, a training recipe or the name of one; got int"),
        ({"recipe": dchw.Recipe(threshold=0.1)}, "training prunes to a density"),
        ({"recipe": dchw.Recipe(density={"cnov": 0.1})}, "density.cnov: no such layer; did you mean 'conv'"),
        ({"module": nn.Flatten()}, "found none; give a module that has weights to compress"),
        ({"module": 3}, "expected a torch.nn.Module; got int"),
        ({"epochs": 2}, "epochs: expected at least 3"),
    ],
)
def test_faults_are_named(change: dict[str, Any], message: str) -> None:
    arguments = {"module": Normalised(), "recipe": method(), "loss": functional.cross_entropy, **change}
    with pytest.raises(DchwError, match=message):
        dchw.train(arguments.pop("module"), plain_batches(), arguments.pop("recipe"), **arguments)


def test_settings_that_fit_no_layer_show_before_the_training() -> None:
    def never(outputs: Any, targets: Any) -> torch.Tensor:
        raise AssertionError("trained")

    for sharing in ({"shared_values": {"scoers": 3, "*": 7}}, {"shared_values": 7, "init": {"x": "linear"}}):
        with pytest.raises(DchwError, match="no such layer"):
            dchw.train(Normalised(), plain_batches(), method(sharing={"training": STRETCH, **sharing}), loss=never)


def test_weights_that_a_module_computes_become_plain_ones() -> None:
    torch.manual_seed(0)
    module = Normalised()
    nn.utils.parametrizations.weight_norm(module.scores)
    nn.utils.prune.random_unstructured(module.conv, "weight", 0.5)
    out = trained(module)
    assert isinstance(out.module.scores.weight, nn.Parameter)
    assert "weight_orig" not in dict(out.module.conv.named_parameters())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_an_epochs_random_numbers_depend_on_seed_and_number_alone(seed: int, epoch: int) -> None:
    def draw() -> tuple[float, ...]:
        return torch.rand(1).item(), random.random(), float(np.random.random())  # noqa: NPY002

    outside = torch.get_rng_state(), random.getstate()
    with seeded(seed, "x", epoch):
        first = draw()
    assert torch.equal(outside[0], torch.get_rng_state())
    assert outside[1] == random.getstate()
    draw()
    with seeded(seed, "x", epoch):
        assert draw() == first
    with seeded(seed, "y", epoch):
        assert draw() != first


def test_a_loaders_own_generator_goes_on_where_it_was() -> None:
    def loader() -> torch.utils.data.DataLoader[Any]:
        data = torch.utils.data.TensorDataset(torch.arange(40).float()[:, None], torch.arange(40))
        return torch.utils.data.DataLoader(data, 8, shuffle=True, generator=torch.Generator().manual_seed(3))

    def order(source: GivenBatches, epoch: int) -> list[int]:
        return [int(x) for batch in source.epoch(epoch, Batching(), None) for x in batch.targets]

    whole = GivenBatches(loader(), seed=0)
    expected = [order(whole, epoch) for epoch in range(4)]
    first = GivenBatches(loader(), seed=0)
    assert [order(first, 0), order(first, 1)] == expected[:2]
    second = GivenBatches(loader(), seed=0)
    second.restore(first.state())
    assert [next(iter(second.sample(8))).targets.numel(), order(second, 2), order(second, 3)] == [8, *expected[2:]]


@pytest.mark.parametrize("pattern", ["conv", "c*"])
def test_a_layer_that_is_left_out_trains_along_and_is_kept_as_float16(pattern: str) -> None:
    module = Normalised()
    for recipe in (dchw.Recipe(density=0.5, codebook_bits=2, skip=(pattern,)), method(skip=[pattern])):
        out = trained(module, recipe, epochs=6)
        assert isinstance(out.module, Normalised)
        weight = out.module.conv.weight.detach()
        assert torch.equal(weight, weight.half().float())
        assert weight.count_nonzero() == weight.numel()
        assert not torch.allclose(weight, module.conv.weight, atol=1e-3)  # it has trained
        assert np.array_equal(out.compressed.layer("conv").weight, weight.numpy())
        assert out.module.scores.weight.unique().numel() <= 8
        assert "conv.weight" in out.kept


def test_leaving_out_what_is_not_there_or_everything_is_refused() -> None:
    with pytest.raises(DchwError, match="recipe: skip: none: no such layer; did you mean 'conv'"):
        trained(Normalised(), dchw.Recipe(skip=("none",)))
    with pytest.raises(DchwError, match="got patterns that fit all"):
        trained(Normalised(), dchw.Recipe(skip=("*",)))


def test_normalisation_can_be_folded_before_weights_are_shared() -> None:
    out = trained(Normalised(), method(fold_normalisation=True, dense=STRETCH))
    assert isinstance(out.module, Normalised)
    assert isinstance(out.module.norm, nn.Identity)
    assert out.module.conv.bias is not None
    assert len(np.unique(out.compressed.layer("conv").weight)) <= 8
    assert not any(op.kind == "normalisation" for op in out.compressed.graph.operations)
    inputs = plain_batches()[0][0]
    network = out.compressed.decompress()
    got = forward(network, {network.operations[0].name: inputs.numpy()})[network.operations[-1].name]
    np.testing.assert_allclose(got, out.module(inputs).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_folding_changes_nothing_of_what_a_module_computes() -> None:
    torch.manual_seed(3)
    norms = [nn.BatchNorm2d(3), nn.BatchNorm2d(4, affine=False), nn.BatchNorm1d(5)]
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    first, second = nn.Conv2d(2, 3, 3, bias=False), nn.Conv2d(3, 4, 1)
    last = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), norms[2])
    module = nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], last).eval()
    inputs = torch.randn(3, 2, 6, 6)
    expected = module(inputs)
    pairs = pairs_of(module, network_of(module, inputs[:1], name="net"))
    assert pairs == (("0", "1"), ("3", "4"), ("5.1", "5.2"))
    fold(module, pairs)
    assert not any("BatchNorm" in type(part).__name__ for part in module.modules())
    torch.testing.assert_close(module(inputs), expected)
