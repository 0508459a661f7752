"""From a network to a compressed one on arrays alone: what a user asks for per layer, and doing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Discriminator, Field, Tag

from dchw import showing
from dchw.arguments import checked
from dchw.compression.compressed import (
    CodeArray,
    Coding,
    CompressedLayer,
    CompressedNetwork,
    Positions,
    Representation,
    ValueFormat,
    graph_of,
)
from dchw.compression.huffman import minimum_limit, symbol_counts
from dchw.compression.layer_streams import layer_streams
from dchw.compression.prune import magnitude_mask
from dchw.compression.representation import INDEX_BITS_TRIED, candidates, smallest
from dchw.compression.share import Init, assign, kmeans_codebook
from dchw.compression.value_formats import round_to_format
from dchw.config import Config, NonNegative, Positive
from dchw.graph.network import FloatArray, Layer, Network, OperationKind
from dchw.quantities import ConfigError, DchwError, nearest

T = TypeVar("T")
PerLayer: TypeAlias = Annotated[
    Annotated[T, Tag("(one)")] | Annotated[dict[str, T], Tag("(by layer)")],
    Discriminator(lambda value: "(by layer)" if isinstance(value, Mapping) else "(one)"),
]
"""One value for all layers, or values by layer name or pattern (``block.*.weight``); others take the default.

A layer's own name goes before patterns, an earlier pattern before a later one.
"""

SMALLEST = "smallest"
Smallest: TypeAlias = Literal["smallest"]
"""Try all and take what gives the fewest bytes."""


def _known(kind: type[StrEnum]) -> BeforeValidator:
    def check(value: object) -> object:
        choices = [*(member.value for member in kind), SMALLEST]
        if value not in choices:
            raise ValueError(f"got {value!r}; {nearest(str(value), choices)}")
        return value

    return BeforeValidator(check)


def _expected(legal: Callable[[object], bool], words: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value != SMALLEST and not legal(value):
            raise ValueError(f"expected {words} or 'smallest'; got {value!r}")
        return value

    return BeforeValidator(check)


Density = Annotated[float, Field(gt=0, le=1)]
Threshold = Annotated[float, Field(ge=0)]
Bits = Annotated[int, Field(ge=1, le=16, strict=True)]
IndexBits = Annotated[int | Smallest, _expected(lambda v: type(v) is int and 1 <= v <= 16, "1 to 16")]
PositionsChoice = Annotated[Positions | Smallest, _known(Positions)]
CodingChoice = Annotated[Coding | Smallest, _known(Coding)]
TrimChoice = Annotated[bool | Smallest, _expected(lambda v: isinstance(v, bool), "true, false")]

DEFAULT_CODE_LIMIT = 12
"""Costs at most 0.3 % of the size against no limit, and a decoding table of 4,096 entries."""
CONVOLUTION_BITS, LINEAR_BITS = 8, 5
"""Default bits of codes and of gaps by kind of layer (Han et al., ICLR 2016: 8-bit codes for convolutions, 5-bit for
fully connected layers)."""


class Recipe(Config):
    """How to compress a network: fields are one value for all layers, or map names or patterns of layers to values."""

    skip: tuple[str, ...] = ()
    """Names or patterns of layers that are neither pruned nor shared: their weights are kept as float16."""
    tables: tuple[str, ...] = ()
    """Names or patterns of embedding tables that are shared like layers (a code for every value, nothing pruned unless
    ``density`` or ``threshold`` names them); others are stored as they are."""

    density: PerLayer[Density] | None = None
    """Share of weights that stay, the largest ones; without it and without a threshold all non-zero weights stay."""
    threshold: PerLayer[Threshold] | None = None
    """Magnitude from which weights stay."""
    codebook_bits: PerLayer[Bits] | None = None
    """Bits b of a code: at most 2**b - 1 shared values. Default 8 for convolutions, 5 for linear layers."""
    init: PerLayer[Init] = "linear"
    """Centroid initialisation. Weights that already have few enough distinct values keep them exactly."""
    codebook_format: PerLayer[ValueFormat] = ValueFormat.FLOAT32
    """In which shared values are stored."""
    bias_format: PerLayer[ValueFormat] = ValueFormat.FLOAT32
    """In which biases are stored."""
    positions: PerLayer[PositionsChoice] = "smallest"
    """How positions of non-zero weights are stored; ``smallest`` tries all."""
    index_bits: PerLayer[IndexBits] | None = None
    """Bits of a gap. Default 8 for convolutions, 5 for linear layers."""
    coding: PerLayer[CodingChoice] = "smallest"
    """Of codes and gaps: fixed width or Huffman; ``smallest`` tries all."""
    code_limit: PerLayer[Bits] | None = None
    """Longest code word; at least ceil(log2(symbols used)). Default 12, or that if it is larger."""
    chunk_entries: PerLayer[Positive] = 4096
    """Entries of a chunk of Huffman bits in the file; chunks decode independently."""
    trim: PerLayer[TrimChoice] = "smallest"
    """Whether rows and columns of the weight matrix without any weight are listed and left out of positions."""
    seed: NonNegative = 0
    """Of the random initialisation."""

    def for_layer(self, field: str, layer: str, default: Any = None) -> Any:
        """A field's value for one layer."""
        if _matches(layer, self.skip) and field in _SKIPPED:
            return _SKIPPED[field]
        value = getattr(self, field)
        if isinstance(value, Mapping):
            named = [layer, *(key for key in value if fnmatchcase(layer, key))]
            value = next((value[key] for key in named if key in value), None)
            if value is None:
                value = type(self).model_fields[field].default
        return default if value is None else value

    def prunes(self, layer: str, *, table: bool) -> bool:
        """Whether density and threshold apply to a layer: to an embedding table only where they name it."""
        return not table or isinstance(self.density, Mapping) or isinstance(self.threshold, Mapping)

    def check_layers(self, names: Iterable[str], tables: Iterable[str] = ()) -> None:
        """Raise ConfigError for names and patterns that fit no layer (or, in ``tables``, no embedding table)."""
        known, looked_up = list(names), list(tables)
        mappings = ((field, getattr(self, field)) for field in type(self).model_fields)
        given = [(field, key, known) for field, value in mappings if isinstance(value, Mapping) for key in value]
        given += [("skip", key, known) for key in self.skip] + [("tables", key, looked_up) for key in self.tables]
        faults = [
            f"recipe: {field}.{key}: no such {'table' if field == 'tables' else 'layer'}; {_hint(key, fitting)}"
            for field, key, fitting in given
            if not any(_matches(name, (key,)) for name in fitting)
        ]
        if faults:
            raise ConfigError("; ".join(faults))

    def __repr__(self) -> str:
        return showing.call(type(self).__name__, {name: getattr(self, name) for name in sorted(self.model_fields_set)})


_SKIPPED: Mapping[str, Any] = MappingProxyType(
    {
        "density": None,
        "threshold": None,
        "codebook_bits": 16,
        "codebook_format": ValueFormat.FLOAT16,
        "positions": Positions.DENSE,
    }
)
"""Settings of a layer that is left out: codes for every float16 value that occurs, which are fewer than 2**16."""


def _matches(layer: str, patterns: Iterable[str]) -> bool:
    return any(layer == pattern or fnmatchcase(layer, pattern) for pattern in patterns)


def _hint(key: str, known: list[str]) -> str:
    return nearest(key, known) if known else "the network has none"


@checked
def compress(
    network: Network, recipe: Recipe | None = None, *, on_layer: Callable[[str], None] | None = None
) -> CompressedNetwork:
    """Prune, share weights and choose representations, on arrays and without retraining.

    Parameters
    ----------
    network
        The network; it must have at least one linear or convolutional layer.
    recipe
        Densities, codebook and index bits and the rest, as scalars or per layer. Default: ``Recipe()``, which keeps
        the zeros that are there and shares what is left. A layer of which nothing is left stays, empty and noted.
    on_layer
        Called with the name of every layer that is done.

    Returns
    -------
    CompressedNetwork
        Codes, codebooks and graph; `save` writes it, ``decompress()`` gives the shared weights back.

    Raises
    ------
    DchwError
        For a network without layers.
    ConfigError
        For a recipe that does not fit the network.

    Examples
    --------
    >>> import dchw, numpy as np
    >>> weight = np.random.default_rng(0).standard_normal((64, 128), dtype=np.float32)
    >>> network = dchw.Network.from_arrays("fc", weights={"fc": weight})
    >>> compressed = dchw.compress(network, dchw.Recipe(density=0.1, codebook_bits=4))
    >>> compressed.layers[0].nonzeros
    819
    """
    recipe = recipe or Recipe()
    layers = network.layers
    if not layers:
        raise DchwError(
            f"network {network.name}: expected at least one linear or convolutional layer; got none; "
            "there is nothing to compress"
        )
    tables = [op.name for op in network.operations if op.kind is OperationKind.EMBEDDING and op.shares is None]
    recipe.check_layers([layer.name for layer in layers], tables)
    network = _with_tables(network, [name for name in tables if _matches(name, recipe.tables)])
    layers = network.layers
    compressed = []
    for i, layer in enumerate(layers):
        compressed.append(compress_layer(layer, recipe, np.random.default_rng([recipe.seed, i])))
        if on_layer is not None:
            on_layer(layer.name)
    empty = [layer.name for layer in compressed if not layer.codes.any()]
    if len(empty) == len(compressed):
        raise DchwError(
            f"network {network.name}: expected at least one weight that stays; got none in any layer (all zero or "
            "pruned); raise the density, or name a network with weights"
            + "".join(f" ({note})" for note in network.notes)
        )
    if empty:
        what = f"no weight is left in {', '.join(empty)}: kept as empty layers"
        network = replace(network, notes=(*network.notes, what))
    skipped = [layer.name for layer in layers if _matches(layer.name, recipe.skip)]
    if skipped:
        network = replace(
            network, notes=(*network.notes, f"left out of compression, kept as float16: {', '.join(skipped)}")
        )
    return CompressedNetwork(
        graph=graph_of(network),
        layers=tuple(compressed),
        recipe=recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True),
    )


def _with_tables(network: Network, names: list[str]) -> Network:
    """The network with some of its embedding tables as weights to be compressed."""
    operations = []
    for op in network.operations:
        if op.name in names and "table" in op.attributes:
            rest = {key: value for key, value in op.attributes.items() if key != "table"}
            op = replace(op, weight=op.attributes["table"], attributes=rest)
        operations.append(op)
    return replace(network, operations=tuple(operations)) if names else network


def compress_layer(layer: Layer, recipe: Recipe, rng: np.random.Generator) -> CompressedLayer:
    """One layer of `compress`."""
    name = layer.name
    try:
        prunes = recipe.prunes(name, table=layer.kind is OperationKind.EMBEDDING)
        mask = magnitude_mask(
            layer.weight,
            density=recipe.for_layer("density", name) if prunes else None,
            threshold=recipe.for_layer("threshold", name) if prunes else None,
        )
        representation = _given_representation(layer, recipe)
        if not mask.any():
            none: CodeArray = np.zeros(tuple(layer.weight.shape), np.uint16)
            if representation.codebook_bits <= 8:
                none = none.astype(np.uint8)
            bias = None if layer.bias is None else round_to_format(layer.bias, representation.bias_format)
            return CompressedLayer.of(
                layer, codes=none, codebook=np.zeros(1, np.float32), bias=bias, representation=representation
            )
        if _matches(name, recipe.skip):
            codebook = _float16_values(layer.weight[mask])
        else:
            codebook = _codebook(layer.weight[mask], representation, recipe.for_layer("init", name), rng)
        codes = assign(layer.weight, mask, codebook[1:])
        bias = None if layer.bias is None else round_to_format(layer.bias, representation.bias_format)
        representation = choose_representation(
            codes.reshape(codes.shape[0], -1),
            codebook.size,
            bias,
            representation,
            positions=recipe.for_layer("positions", name),
            coding=recipe.for_layer("coding", name),
            index_bits=recipe.for_layer("index_bits", name, representation.index_bits),
            trim=recipe.for_layer("trim", name),
            code_limit=recipe.for_layer("code_limit", name),
        )
    except ConfigError:
        raise
    except DchwError as error:
        raise DchwError(f"layer {name!r}: {error}") from None
    return CompressedLayer.of(layer, codes=codes, codebook=codebook, bias=bias, representation=representation)


def choose_representation(
    matrix: CodeArray,
    codebook_size: int,
    bias: npt.NDArray[np.float32] | None,
    representation: Representation,
    *,
    positions: Positions | Smallest = "smallest",
    coding: Coding | Smallest = "smallest",
    index_bits: int | Smallest = "smallest",
    trim: bool | Smallest = "smallest",
    code_limit: int | None = None,
) -> Representation:
    """The representation for codes [rows, columns] that takes the fewest bytes among what is left open.

    ``representation`` gives codebook bits, formats and chunk size. Without a ``code_limit`` it is 12, or as many bits
    as the symbols in use need.
    """
    limit = code_limit or _least_limit(matrix, representation, 12 if index_bits == "smallest" else index_bits)
    choices = candidates(
        matrix,
        codebook_size,
        bias,
        Representation(
            codebook_bits=representation.codebook_bits,
            index_bits=representation.index_bits if index_bits == "smallest" else index_bits,
            code_limit=limit,
            codebook_format=representation.codebook_format,
            bias_format=representation.bias_format,
            chunk_entries=representation.chunk_entries,
        ),
        positions=tuple(Positions) if positions == "smallest" else (positions,),
        codings=tuple(Coding) if coding == "smallest" else (coding,),
        index_bits=INDEX_BITS_TRIED if index_bits == "smallest" else (index_bits,),
        trims=(False, True) if trim == "smallest" else (trim,),
    )
    return smallest(choices).representation


def _given_representation(layer: Layer, recipe: Recipe) -> Representation:
    """What the recipe fixes; positions, coding and trimming are chosen later."""
    bits = CONVOLUTION_BITS if layer.kind is OperationKind.CONV2D else LINEAR_BITS
    index_bits = recipe.for_layer("index_bits", layer.name, bits)
    return Representation(
        codebook_bits=recipe.for_layer("codebook_bits", layer.name, bits),
        index_bits=bits if index_bits == "smallest" else index_bits,
        codebook_format=recipe.for_layer("codebook_format", layer.name),
        bias_format=recipe.for_layer("bias_format", layer.name),
        chunk_entries=recipe.for_layer("chunk_entries", layer.name),
    )


def _codebook(values: FloatArray, representation: Representation, init: Init, rng: np.random.Generator) -> FloatArray:
    """+0.0 and the shared values, as the codebook's format holds them: ascending, distinct, none of them zero."""
    most = (1 << representation.codebook_bits) - 1
    # a look at a few tells most layers with too many distinct values without sorting all
    distinct = np.unique(values[: 16 * most])
    if distinct.size <= most:
        distinct = np.unique(values)
    centroids = distinct if distinct.size <= most else kmeans_codebook(values, most, init, rng=rng).centroids
    held = np.unique(round_to_format(centroids, representation.codebook_format))
    held = held[held != 0]
    if held.size == 0:
        raise DchwError(
            f"shared values: expected some that {representation.codebook_format.value} can tell from zero; got "
            f"{float(np.abs(centroids).max()):g} at most; choose codebook_format float32"
        )
    return np.concatenate([np.zeros(1, np.float32), held])


def _float16_values(values: FloatArray) -> FloatArray:
    """+0.0 and every float16 value that the weights round to."""
    held = np.unique(round_to_format(values, ValueFormat.FLOAT16))
    return np.concatenate([np.zeros(1, np.float32), held[held != 0]])


def _least_limit(matrix: CodeArray, representation: Representation, index_bits: int) -> int:
    """12, or the bits that the symbols in use need."""
    used_codes = int(np.count_nonzero(symbol_counts(matrix)))
    limit = max(DEFAULT_CODE_LIMIT, minimum_limit(used_codes + 1))
    if index_bits > DEFAULT_CODE_LIMIT:
        wide = Representation(
            positions=Positions.GAPS,
            index_bits=index_bits,
            codebook_bits=representation.codebook_bits,
            code_coding=Coding.FIXED,
            gap_coding=Coding.FIXED,
        )
        gaps = layer_streams(matrix, 1 << representation.codebook_bits, wide).gaps
        assert gaps is not None
        limit = max(limit, minimum_limit(np.unique(gaps.symbols).size + 1))
    return limit
