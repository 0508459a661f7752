"""What compression gives: a network whose layers hold a code per weight and a codebook, and how each is stored.

The code of every weight (0 = pruned) is the one truth; entries, bits and sizes are derived from it by fixed rules,
so equal values here mean equal files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.graph.coverage import Coverage
from dchw.graph.geometry import Geometry
from dchw.graph.network import FloatArray, Layer, Network, OperationKind, placeholder
from dchw.quantities import DchwError, nearest

CodeArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class Positions(StrEnum):
    """How a layer says where its non-zero weights are."""

    GAPS = "gaps"  # relative index; a gap that does not fit is split by filler entries
    ESCAPED_GAPS = "escaped_gaps"  # relative index; the largest gap value escapes and carries no code
    BITMASK = "bitmask"  # one bit per weight
    DENSE = "dense"  # every weight has a code; no positions


class Coding(StrEnum):
    """How the symbols of a stream are written."""

    HUFFMAN = auto()  # canonical, length-limited
    FIXED = "fixed"  # a fixed number of bits per symbol


class ValueFormat(StrEnum):
    """How real numbers of a codebook or of biases are written; the values in memory are exactly these."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"  # symmetric: value = integer x one float32 step per layer


@dataclass(frozen=True, kw_only=True, repr=False)
class Representation:
    """The representation chosen for one layer, recorded in its file."""

    positions: Positions = Positions.GAPS
    index_bits: int = 5
    """Bits of a gap before entropy coding, 1-16."""
    codebook_bits: int = 5
    """Bits of a code before entropy coding, 1-16."""
    code_limit: int = 12
    """Longest Huffman code word, in bits."""
    code_coding: Coding = Coding.HUFFMAN
    gap_coding: Coding = Coding.HUFFMAN
    codebook_format: ValueFormat = ValueFormat.FLOAT32
    bias_format: ValueFormat = ValueFormat.FLOAT32
    chunk_entries: int = 4096
    """Entries of a chunk in the file; the last one may hold fewer."""
    trim: bool = False
    """True: rows and columns of the weight matrix that hold no weight are listed once and left out of positions."""

    def __repr__(self) -> str:
        settings = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        plain = {name: str(value) if isinstance(value, StrEnum) else value for name, value in settings.items()}
        return showing.call(type(self).__name__, plain)


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressedLayer:
    """One pruned, weight-shared layer."""

    name: str
    codes: CodeArray
    """uint8 or uint16 in the weight's original shape; 0 where pruned, otherwise an index into ``codebook``."""
    codebook: FloatArray
    """float32[k]; entry 0 is +0.0, entries 1.. are the shared values (not necessarily sorted)."""
    bias: FloatArray | None
    geometry: Geometry
    kind: OperationKind
    input: str
    parameter: str
    representation: Representation
    sequential: bool = False
    """Whether its products are done one column after another: see `Layer`."""

    def __post_init__(self) -> None:
        for name in ("codes", "codebook", "bias"):
            array = getattr(self, name)
            if array is not None:
                array = np.ascontiguousarray(array)
                if array.flags.writeable:
                    array = array.copy()
                    array.flags.writeable = False
                object.__setattr__(self, name, array)
        if self.codes.dtype not in (np.uint8, np.uint16):
            raise DchwError(f"layer {self.name!r}: codes must be uint8 or uint16; got {self.codes.dtype}; convert them")
        if self.codebook.size == 0 or self.codebook[0] != 0 or np.signbit(self.codebook[0]):
            raise DchwError(f"layer {self.name!r}: codebook entry 0 must be +0.0; put it there and renumber the codes")
        if not np.isfinite(self.codebook).all():
            raise DchwError(f"layer {self.name!r}: codebook values must be finite; share the weights again")
        if self.codebook.size > 2**self.representation.codebook_bits:
            raise DchwError(
                f"layer {self.name!r}: {self.codebook.size} codebook entries need more than "
                f"{self.representation.codebook_bits} bits; raise codebook_bits"
            )
        if self.codes.size and int(self.codes.max()) >= self.codebook.size:
            raise DchwError(
                f"layer {self.name!r}: code {int(self.codes.max())} is outside its codebook; renumber the codes"
            )

    @classmethod
    def of(
        cls,
        layer: Layer,
        *,
        codes: CodeArray,
        codebook: FloatArray,
        bias: FloatArray | None,
        representation: Representation,
    ) -> CompressedLayer:
        """A network's layer with its weights coded; all else as it is there."""
        return cls(
            name=layer.name,
            codes=codes,
            codebook=codebook,
            bias=bias,
            geometry=layer.geometry,
            kind=layer.kind,
            input=layer.input,
            parameter=layer.parameter,
            representation=representation,
            sequential=layer.sequential,
        )

    def used_as(self, use: Layer) -> CompressedLayer:
        """The same weights where another operation multiplies them."""
        return dataclasses.replace(
            self,
            name=use.name,
            geometry=use.geometry,
            kind=use.kind,
            input=use.input,
            bias=None if use.bias is None else self.bias,
        )

    @property
    def weight(self) -> FloatArray:
        """Decompressed weights, float32, original shape."""
        return self.codebook[self.codes]

    @property
    def matrix_codes(self) -> CodeArray:
        """Codes as [out_channels, in_channels/groups*kh*kw]."""
        return self.codes.reshape(self.codes.shape[0], -1)

    @cached_property
    def nonzeros(self) -> int:
        """Weights that are kept."""
        return int(np.count_nonzero(self.codes))

    @property
    def density(self) -> float:
        """Share of weights that are kept."""
        return self.nonzeros / self.codes.size

    def __repr__(self) -> str:
        shared = f"{self.codebook.size - 1} shared values"
        return showing.line(
            "CompressedLayer",
            f"{self.name} ({self.kind.value})",
            f"codes {list(self.codes.shape)}",
            f"{self.density:.1%} kept",
            shared,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressedNetwork:
    """A graph without weights, the compressed layers that fill it, and how it came about."""

    graph: Network
    """The network's operations; layers' weights are zero-strided placeholders of the right shape."""
    layers: tuple[CompressedLayer, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """How it was compressed, as plain values."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """What was measured on it (error rates with data set and seed), as plain values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", MappingProxyType(dict(self.recipe)))
        object.__setattr__(self, "results", MappingProxyType(dict(self.results)))

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.graph.name

    @property
    def coverage(self) -> Coverage:
        """Where every parameter of the network went: see `Network.coverage`."""
        return self.graph.coverage

    def layer(self, name: str) -> CompressedLayer:
        """One layer by name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise DchwError(f"network {self.name}: no layer {name!r}; {nearest(name, [x.name for x in self.layers])}")

    @cached_property
    def uses(self) -> tuple[CompressedLayer, ...]:
        """Every product of the graph with the codes it multiplies, in order: a shared layer once for each use."""
        held = {layer.name: layer for layer in self.layers}
        return tuple(
            held[use.holder] if use.holder == use.name else held[use.holder].used_as(use) for use in self.graph.uses
        )

    def decompress(self) -> Network:
        """The network with its shared weights, in the original shapes."""
        return self.graph.with_weights(
            {layer.name: layer.weight for layer in self.layers},
            {layer.name: layer.bias for layer in self.layers if layer.bias is not None},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["recipe"], plain["results"] = dict(self.recipe), dict(self.results)
        return _rebuild, (plain,)

    def __repr__(self) -> str:
        weights = sum(layer.codes.size for layer in self.layers)
        kept = sum(layer.nonzeros for layer in self.layers)
        share = f"{kept / max(weights, 1):.1%} of {weights:,} weights kept in {len(self.layers)} layers"
        return showing.line("CompressedNetwork", self.name, share)

    def _repr_html_(self) -> str:
        rows = [
            (
                one.name,
                list(one.codes.shape),
                f"{one.density:.1%}",
                one.codebook.size - 1,
                one.representation.positions.value,
            )
            for one in self.layers
        ]
        heads = ("layer", "shape", "kept", "shared values", "positions")
        return showing.table(f"CompressedNetwork {self.name}", heads, rows)


def graph_of(network: Network) -> Network:
    """The network's operations with placeholders instead of weights and biases, which take no memory."""
    operations = tuple(
        dataclasses.replace(
            op,
            weight=None if op.weight is None else placeholder(op.weight.shape),
            bias=None if op.bias is None else placeholder(op.bias.shape),
        )
        for op in network.operations
    )
    return dataclasses.replace(network, operations=operations)


def _rebuild(arguments: dict[str, Any]) -> CompressedNetwork:
    return CompressedNetwork(**arguments)
