"""The main job in one call: train, compress, check that nothing is lost, simulate before and after, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.compression.compressed import CompressedNetwork
from dchw.container.saving import load, save, to_bytes
from dchw.extras import require
from dchw.formats import STORAGE_FORMATS, PackShape, pack, unpack, weight_matrix
from dchw.graph import forward
from dchw.graph.network import FloatArray, Network
from dchw.machines.machine import Machine, machine
from dchw.quantities import DchwError
from dchw.run.comparison import compare
from dchw.run.sim_result import SimResult

if TYPE_CHECKING:
    import pandas as pd

    from dchw.training.loop import Progress


@dataclass(frozen=True, kw_only=True, eq=False)
class Demo:
    """What the demo made and found."""

    network: CompressedNetwork
    machine: Machine
    training: dict[str, Any]
    results: dict[str, SimResult]
    table: pd.DataFrame
    """A row per storage format, with ``error_pct`` of the weights as that format holds them."""
    report: Path


def run_demo(
    folder: str | Path,
    *,
    machine_name: str = "phone-lpddr5x",
    seed: int = 0,
    progress: Progress,
    on_stage: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Train LeNet-300-100 on the digits that ship with scikit-learn, compress it, and say what it costs.

    Writes ``lenet_300_100_digits.dchw`` and ``report.html`` into ``folder``. ``on_stage`` gets a line as each stage is
    done: training, pruning, sharing, file, simulation, report. Raises DchwError where decoding the file
    is not lossless (a fault of this package) or what the extra ``demo`` brings is missing.
    """
    require("the demo", "torch", "plotly", "sklearn", extra="demo")
    from dchw.reports import write_report
    from dchw.training.datasets import load_dataset
    from dchw.training.demo_training import train_demo

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    dense, compressed, training = train_demo(progress=progress, seed=seed, on_stage=on_stage)
    path = place / "lenet_300_100_digits.dchw"
    file_bytes = save(compressed, path)
    network = load(path)
    check_lossless(compressed, network)
    fp32_bytes = 4 * sum(parameter.numel() for parameter in dense.parameters())
    on_stage(f"Written: {path}, {file_bytes:,} bytes for {fp32_bytes:,} of fp32, read back bit for bit")
    data = load_dataset("digits")
    images = data.test_images.astype(np.float32) / np.float32(255)
    target = machine(machine_name)
    results: dict[str, SimResult] = {}

    def finished(storage: str, result: SimResult) -> None:
        results[storage] = result
        progress("simulating", len(results), len(STORAGE_FORMATS))

    table = compare(network, target, on_result=finished)
    errors = {name: error_percent(as_stored(network, name), images, data.test_labels) for name in STORAGE_FORMATS}
    table["error_pct"] = [errors[name] for name in table["storage"]]
    on_stage(f"Simulated: {len(results)} storage formats on {target.name}")
    report = place / "report.html"
    write_report(report, network, target, results, table, command=f"dchw demo --seed {seed}", error_pct=errors)
    on_stage(f"Reported: {report}")
    return Demo(network=network, machine=target, training=training, results=results, table=table, report=report)


def check_lossless(before: CompressedNetwork, after: CompressedNetwork) -> None:
    """Raise unless what was loaded has the same bits and the same shared weights as what was saved."""
    if to_bytes(before) != to_bytes(after):
        raise DchwError("demo: the file read back differs from what was written; this is a fault, please report it")
    for one, other in zip(before.decompress().layers, after.decompress().layers, strict=True):
        if one.weight.tobytes() != other.weight.tobytes():
            raise DchwError(f"demo: layer {one.name!r} lost weights in its file; this is a fault, please report it")


def as_stored(network: CompressedNetwork, storage: str) -> Network:
    """The network with the weights and biases that a storage format gives back (dense-fp16 and -int8 round them)."""
    weights, biases = {}, {}
    shape = PackShape(elements=1, decoders=1)
    for layer in network.layers:
        decoded = unpack(pack(layer, storage, shape, value_bits=32))
        weights[layer.name] = weight_matrix(decoded).reshape(layer.codes.shape)
        if decoded.bias is not None:
            biases[layer.name] = decoded.bias
    return dataclasses.replace(network.decompress().with_weights(weights, biases), example_inputs={})


def error_percent(network: Network, images: FloatArray, labels: np.ndarray[Any, Any]) -> float:
    """Share of images whose highest class score is not their label, in percent, by the numpy forward pass."""
    source = network.operations[0].name
    scores = forward.forward(network, {source: images})[network.operations[-1].name]
    return float(100 * np.mean(scores.reshape(len(labels), -1).argmax(axis=1) != labels))
