"""Trained ONNX and TFLite files of others: whole or not, outputs against a runtime, compressed and compared.

    python -m tests.peers.trained_files FILE ... [--compare]

prints one row of a Markdown table for each. The files are looked for where they are, such as unpacked wheels; inputs
are random, of the sizes below where a file leaves them open.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import dchw
from dchw.graph.coverage import Place
from dchw.graph.forward import forward
from dchw.graph.network import Network
from dchw.quantities import DchwError

SIZES = MappingProxyType(
    {
        "ch_PP-OCRv4_det_infer": {"x": (1, 3, 224, 224)},
        "ch_PP-OCRv4_rec_infer": {"x": (1, 3, 48, 320)},
        "ch_ppocr_mobile_v2.0_cls_infer": {"x": (1, 3, 48, 192)},
        "320n": {"images": (1, 3, 320, 320)},
        "common": {"input1": (1, 1, 64, 160)},
        "common_old": {"input1": (1, 1, 64, 160)},
        "silero_vad": {"input": (1, 576), "state": (2, 1, 128), "sr": 16000},
        "silero_vad_16k_op15": {"input": (1, 576), "sr": 16000},
        "silero_vad_op18_ifless": {"input": (1, 576), "sr": 16000},
        "silero_vad_half": {"input": (1, 576)},
        "silero_vad_16k_sequence": {"input": (8, 576)},
    }
)
"""Sizes (of a scalar its value) by file and input, where the file leaves them open."""
MACHINE, FORMATS = "phone-lpddr5x", ("dense-int8", "huffman-int8")  # both multiply bytes
DENSITY = 0.3


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one file."""

    name: str
    parameters: int
    coverage: str
    other: int
    """Operations that are not computed here."""
    load_s: float
    difference: float | None
    """Largest difference of an output to the runtime's, as a share of its largest value; None: not computed."""
    spread: float
    """The same between the runtime's own ways: all optimisations or none; for TFLite NaN."""
    steps: tuple[float, int] = (0.0, 0)
    """Of a quantised TFLite file: see `steps_apart`."""
    compared: str = ""

    def markdown(self) -> str:
        """The row of a table."""
        got = "-" if self.difference is None else f"{self.difference:.1e}"
        spread = "-" if np.isnan(self.spread) else f"{self.spread:.1e}"
        steps = f"{self.steps[0]:.2f} ({self.steps[1]})" if self.steps[1] else "-"
        return (
            f"| {self.name} | {self.parameters:,} | {self.coverage} | {self.other} | {self.load_s:.1f} | {got} | "
            f"{spread} | {steps} | {self.compared or '-'} |"
        )


HEAD = (
    "| file | parameters | coverage | not computed | load, CPU s | largest difference to the runtime | "
    "the runtime's own, optimised or not | inner values, steps apart (how many) | "
    "compared: DRAM read, cycles, energy |\n|---|--:|--:|--:|--:|--:|--:|--:|---|"
)


def measured(path: Path, *, compare: bool = False) -> Row:
    """Load a file, run it in both ways, and compress and compare it where asked."""
    sizes = SIZES.get(path.stem)
    start = time.process_time()
    network = dchw.load_network(path, **({"input_shape": sizes} if sizes else {}))
    load_s = time.process_time() - start
    assert isinstance(network, Network)
    run = with_onnxruntime if path.suffix == ".onnx" else with_litert
    inputs, outputs, spread = run(path, sizes or {})
    try:
        difference = _difference(network, inputs, outputs)
    except DchwError:
        difference = None
    return Row(
        name=f"{path.parent.name}/{path.name}",
        parameters=network.coverage.parameters,
        coverage=str(network.coverage),
        other=sum(op.kind == "other" for op in network.operations),
        load_s=load_s,
        difference=difference,
        spread=spread,
        steps=steps_apart(path, network, inputs) if path.suffix == ".tflite" else (0.0, 0),
        compared=compared(network) if compare else "",
    )


def with_onnxruntime(
    path: Path, sizes: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float]:
    """Random inputs, the runtime's outputs, and how far apart they are with all optimisations and with none."""
    import onnxruntime

    results: list[list[np.ndarray]] = []
    levels = onnxruntime.GraphOptimizationLevel
    for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        rng, inputs = np.random.default_rng(0), {}
        for one in session.get_inputs():
            given = sizes.get(one.name, tuple(x if isinstance(x, int) else 1 for x in one.shape))
            if isinstance(given, int):
                inputs[one.name] = np.asarray(given, np.int64)
            elif "int" in one.type:
                inputs[one.name] = rng.integers(0, 256, given).astype(_INTEGERS[one.type])
            else:
                inputs[one.name] = rng.standard_normal(given).astype(np.float32)
        results.append(session.run(None, inputs))
    names = [one.name for one in session.get_outputs()]
    spread = max(_share(a, b) for a, b in zip(*results, strict=True))
    scalars = {name for name, given in sizes.items() if isinstance(given, int)}
    return {k: v for k, v in inputs.items() if k not in scalars}, dict(zip(names, results[0], strict=True)), spread


_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def steps_apart(path: Path, network: Network, inputs: Mapping[str, np.ndarray]) -> tuple[float, int]:
    """How far a quantised file's inner values are from the interpreter's at most, in steps of their scales; how many.

    Every quantised value of the file is compared with the nearest of the operations that bear its name (a product, its
    rounding, its real value: one of them is what the file stores). Values that are zero throughout do not count.
    """
    expected = [op.name for op in network.operations if op.kind == "input"]
    values = forward(network, dict(zip(expected, _batched(network, inputs), strict=True)))
    interpreter = _interpreter(path, experimental_preserve_all_tensors=True)
    for one in interpreter.get_input_details():
        scale, zero = one["quantization"]
        if scale and one["name"] in inputs:
            interpreter.set_tensor(one["index"], np.rint(inputs[one["name"]] / scale + zero).astype(one["dtype"]))
    interpreter.invoke()
    worst = []
    for one in interpreter.get_tensor_details():
        scale, zero = one["quantization"]
        tensor = one["name"].strip("/")
        own = [values[name] for name in values if scale and f"{name}.".startswith(f"{tensor}.")]
        if not own:  # reading the handle of a variable would end the process
            continue
        try:
            held = (interpreter.get_tensor(one["index"]).astype(np.float32) - zero) * np.float32(scale)
        except ValueError:  # a value without memory
            continue
        fitting = [float(np.abs(x.ravel() - held.ravel()).max()) / scale for x in own if x.size == held.size]
        if fitting and np.any(held):
            worst.append(min(fitting))
    return max(worst, default=0.0), len(worst)


def _interpreter(path: Path, **options: Any) -> Any:
    """The interpreter with the kernels that TFLite's own specification describes."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    made = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, **options)
    made.allocate_tensors()
    return made


def with_litert(path: Path, sizes: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float]:
    """Random inputs in real values, and the interpreter's outputs in them."""
    interpreter = _interpreter(path)
    rng, inputs = np.random.default_rng(0), {}
    for one in interpreter.get_input_details():
        values = rng.standard_normal(one["shape"]).astype(np.float32)
        scale, zero = one["quantization"]
        if scale:
            held = np.iinfo(one["dtype"])
            codes = rng.integers(held.min, held.max + 1, one["shape"]).astype(one["dtype"])
            values = (codes.astype(np.float32) - zero) * np.float32(scale)
            interpreter.set_tensor(one["index"], codes)
        else:
            interpreter.set_tensor(one["index"], values)
        inputs[one["name"]] = values
    interpreter.invoke()
    outputs = {}
    for one in interpreter.get_output_details():
        scale, zero = one["quantization"]
        values = interpreter.get_tensor(one["index"]).astype(np.float32)
        outputs[one["name"]] = (values - zero) * np.float32(scale) if scale else values
    return inputs, outputs, float("nan")


def _difference(network: Network, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> float:
    """The largest difference over all outputs: each is the nearest of the network's of its size, which are no
    constants that another could give too in a trained network."""
    expected = [op.name for op in network.operations if op.kind == "input"]
    values = forward(network, dict(zip(expected, _batched(network, inputs), strict=True)))
    worst = 0.0
    for name, wanted in outputs.items():
        fitting = [values[one] for one in network.outputs if values[one].size == wanted.size]
        if not fitting:
            raise ValueError(f"{network.name}: no output gives {wanted.shape} for {name!r}")
        worst = max(worst, min(_share(value.reshape(wanted.shape), wanted) for value in fitting))
    return worst


def _batched(network: Network, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The inputs as the network takes them: behind a batch axis of one; variables, which come last, are zero."""
    shapes = [op.output_shape for op in network.operations if op.kind == "input"]
    given = [value.reshape(1, *shape) for value, shape in zip(inputs.values(), shapes, strict=False)]
    return given + [np.zeros((1, *shape), np.float32) for shape in shapes[len(given) :]]


def _share(got: np.ndarray, wanted: np.ndarray) -> float:
    largest = float(np.abs(wanted).max()) or 1.0
    return float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max()) / largest


def compared(network: Network) -> str:
    """What compressing to 30 % of the weights saves on a phone, or why there is no answer."""
    try:
        table = dchw.compare(dchw.compress(network, dchw.Recipe(density=DENSITY)), MACHINE, storages=FORMATS)
    except DchwError as error:
        return f"refused: {error}"
    dense, packed = (table[table["storage"] == name].iloc[0] for name in FORMATS)
    ratios = (f"{dense[column] / packed[column]:.2f}x" for column in ("dram_read_bytes", "cycles", "energy_nj"))
    layers = len(network.coverage.at(Place.LAYER))
    return f"{', '.join(ratios)} ({layers} layers)"


if __name__ == "__main__":
    print(HEAD)  # noqa: T201
    for chosen in (word for word in sys.argv[1:] if not word.startswith("--")):
        print(measured(Path(chosen), compare="--compare" in sys.argv).markdown(), flush=True)  # noqa: T201
