"""Which representation of a layer takes the fewest bytes: positions x coding x index bits x trimming, by exact size."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.compression.compressed import CodeArray, Coding, CompressedLayer, Positions, Representation
from dchw.compression.layer_streams import LayerStreams, layer_streams
from dchw.compression.trim import Trim
from dchw.compression.value_formats import encoded_bytes

INDEX_BITS_TRIED = range(1, 13)
"""Gap widths that are tried when the width is free; a wider alphabet never pays for its table."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One representation and what it costs."""

    representation: Representation
    size_bytes: int
    """Positions, codes, code tables, chunk table, trim lists and biases; what no choice changes is left out."""


def candidates(
    matrix: CodeArray,
    codebook_size: int,
    bias: npt.NDArray[np.float32] | None,
    representation: Representation,
    *,
    positions: Iterable[Positions] = tuple(Positions),
    codings: Iterable[Coding] = tuple(Coding),
    index_bits: Iterable[int] = (),
    trims: Collection[bool] = (False, True),
) -> list[Candidate]:
    """Every combination of the given choices for a matrix of codes, the rest as in ``representation``.

    Without ``index_bits`` the width is the representation's. Choices that leave no trace in the file (the gap coding of
    a bitmask) appear once, and trimming where nothing can be left out not at all.
    """
    out = []
    for trimmed in trims:
        trim = Trim.of(matrix, bias) if trimmed else None
        if trim is not None and trim.rows.all() and trim.columns.all() and False in trims:
            continue  # nothing to leave out: only a byte more than untrimmed
        selected = trim.select(matrix) if trim else matrix
        fixed = 0 if trim is None else len(trim.encode())
        if bias is not None:
            kept = int(trim.rows.sum()) if trim and trim.biases_left_out else bias.size
            fixed += encoded_bytes(representation.bias_format, kept)
        for place in positions:
            uses_gaps = place in (Positions.GAPS, Positions.ESCAPED_GAPS)
            widths = tuple(index_bits) or (representation.index_bits,)
            for width in widths if uses_gaps else (representation.index_bits,):
                wanted = dataclasses.replace(
                    representation,
                    positions=place,
                    index_bits=width,
                    trim=trimmed,
                    code_coding=Coding.HUFFMAN,
                    gap_coding=Coding.HUFFMAN,
                )
                streams = layer_streams(selected, codebook_size, wanted)
                for chosen, written in _recoded(wanted, streams, tuple(codings), uses_gaps):
                    out.append(Candidate(representation=chosen, size_bytes=fixed + written.size_bytes))
    return out


def smallest(choices: Iterable[Candidate]) -> Candidate:
    """The smallest alternative; of equals the earlier one."""
    return min(choices, key=lambda choice: choice.size_bytes)


def explain(layer: CompressedLayer) -> dict[str, int]:
    """Bytes of a layer under each kind of positions, the best coding each, its other choices as they are."""
    out: dict[str, int] = {}
    for choice in candidates(
        layer.matrix_codes, layer.codebook.size, layer.bias, layer.representation, trims=(layer.representation.trim,)
    ):
        name = choice.representation.positions.value
        out[name] = min(choice.size_bytes, out.get(name, choice.size_bytes))
    return out


def _recoded(
    representation: Representation, streams: LayerStreams, codings: tuple[Coding, ...], uses_gaps: bool
) -> Iterator[tuple[Representation, LayerStreams]]:
    """The same symbols under every allowed coding."""
    for code_coding in codings:
        codes = streams.codes if code_coding is Coding.HUFFMAN else streams.codes.fixed_width()
        for gap_coding in codings if uses_gaps else (code_coding,):
            gaps = streams.gaps
            if gaps is not None and gap_coding is Coding.FIXED:
                gaps = gaps.fixed_width()
            yield (
                dataclasses.replace(representation, code_coding=code_coding, gap_coding=gap_coding),
                dataclasses.replace(streams, codes=codes, gaps=gaps),
            )
