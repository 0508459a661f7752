"""AlexNet, VGG-16 and SqueezeNet v1.0 by name: graphs from the geometry tables, with weights given or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from dchw.graph.network import Array, Network, OperationKind
from dchw.importers.graph_builder import GraphBuilder
from dchw.quantities import DchwError, nearest
from dchw.tables import read_table

Row = Mapping[str, str]


def network_from_table(
    name: str, weights: Mapping[str, Array] | None = None, biases: Mapping[str, Array] | None = None
) -> Network:
    """A built-in network (a key of `BUILT_IN`).

    Layers that are not named in ``weights`` and ``biases`` have zeros that take no memory; ``notes`` says so. Arrays
    that are read-only and float32 are kept without a copy.
    """
    if name not in BUILT_IN:
        raise DchwError(f"there is no built-in network {name!r}; {nearest(name, BUILT_IN)}")
    rows = read_table(f"{name}.csv")
    layers = [row["layer"] for row in rows if row["type"] in ("conv", "fc")]
    for given in (*(weights or {}), *(biases or {})):
        if given not in layers:
            raise DchwError(f"network {name}: no layer {given!r}; {nearest(given, layers)}")
    build = _Build(name, weights or {}, biases or {})
    BUILT_IN[name](build, rows)
    missing = [layer for layer in layers if layer not in (weights or {})]
    notes: tuple[str, ...] = ()
    if missing:
        which = "all layers" if len(missing) == len(layers) else ", ".join(missing)
        notes = (f"built-in geometry without real weights: those of {which} are zeros{_WEIGHTS.get(name, '')}",)
    return Network(name=name, operations=tuple(build.graph.operations), notes=notes)


class _Build:
    """A graph under construction, row by row of the table."""

    def __init__(self, name: str, weights: Mapping[str, Array], biases: Mapping[str, Array]) -> None:
        self.graph = GraphBuilder(f"network {name}")
        self._weights = weights
        self._biases = biases

    def input(self, row: Row) -> str:
        return self.graph.input("data", (int(row["in_channels"]), int(row["in_h"]), int(row["in_w"])))

    def layer(self, row: Row, source: str) -> str:
        """A convolution, fully connected or pooling row; its output must be what the table says."""
        name, outputs = row["layer"], int(row["out_channels"])
        stride, padding = (int(row["stride"]),) * 2, (int(row["pad"]),) * 2
        kernel = (int(row["kernel_h"]), int(row["kernel_w"]))
        weight, bias = self._weights.get(name), self._biases.get(name, True)
        if row["type"] == "conv":
            groups = int(row["groups"])
            self.graph.conv(
                name, source, outputs, kernel, stride=stride, padding=padding, groups=groups, weight=weight, bias=bias
            )
        elif row["type"] == "fc":
            self.graph.linear(name, source, outputs, weight=weight, bias=bias)
            return name
        elif row["type"] == "avgpool":
            self.graph.global_average_pool(name, source)
        else:
            self.graph.pool(name, source, OperationKind.MAX_POOL2D, kernel, stride, padding, ceil_mode=True)
        assert self.graph.shape(name) == (outputs, int(row["out_h"]), int(row["out_w"])), row
        return name

    def relu(self, layer: str) -> str:
        return self.graph.activation(f"relu_{layer}" if "/" not in layer else f"{layer}/relu", layer, "relu")


def _chain(build: _Build, rows: tuple[Row, ...], *, local_response: tuple[str, ...] = ()) -> None:
    """A network without branches: a ReLU after every layer but the last, dropout between fully connected ones."""
    current = build.input(rows[0])
    for row in rows:
        current = build.layer(row, current)
        if row["type"] in ("conv", "fc") and row is not rows[-1]:
            current = build.relu(current)
        if row["layer"] in local_response:
            # size, alpha and beta of Caffe's bvlc_alexnet; k is Caffe's default
            norm = row["layer"].replace("conv", "norm")
            current = build.graph.local_response(norm, current, size=5, alpha=1e-4, beta=0.75, k=1.0)
        if row["type"] == "fc" and row is not rows[-1]:
            current = build.graph.identity(row["layer"].replace("fc", "drop"), current)
    build.graph.activation("prob", current, "softmax", axis=1)


def _alexnet(build: _Build, rows: tuple[Row, ...]) -> None:
    _chain(build, rows, local_response=("conv1", "conv2"))


def _vgg16(build: _Build, rows: tuple[Row, ...]) -> None:
    _chain(build, rows)


def _squeezenet(build: _Build, rows: tuple[Row, ...]) -> None:
    """Fire modules: a 1x1 squeeze, then 1x1 and 3x3 expansions of it, concatenated."""
    current = build.input(rows[0])
    branch = ""
    for row in rows:
        fire, _, part = row["layer"].partition("/")
        if part == "expand1x1":
            branch = build.relu(build.layer(row, current))
        elif part == "expand3x3":
            other = build.relu(build.layer(row, current))
            current = build.graph.concat(f"{fire}/concat", [branch, other])
            if fire == "fire9":
                current = build.graph.identity("drop9", current)
        else:
            current = build.layer(row, current)
            if row["type"] == "conv":
                current = build.relu(current)
    build.graph.activation("prob", build.graph.flatten("flatten", current), "softmax", axis=1)


BUILT_IN: MappingProxyType[str, Callable[[_Build, tuple[Row, ...]], None]] = MappingProxyType(
    {"alexnet": _alexnet, "vgg16": _vgg16, "squeezenet_v1_0": _squeezenet}
)
"""Names of the built-in networks; the tables and their sources are in ``dchw/data``."""
_WEIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "alexnet": "; 'alexnet-synthetic' has weights of the published densities",
        "vgg16": "; 'vgg16-synthetic' has weights of the published densities",
        "squeezenet_v1_0": "; its authors' release, a .net file, has weights",
    }
)
"""Where weights of a built-in geometry are to be had."""
