"""Where every byte of a ``.dchw`` file goes: disjoint parts per layer that add up to the length of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dchw.compression.compressed import CompressedLayer, Positions
from dchw.container import envelope
from dchw.container.layer_bytes import LayerBytes, layer_bytes
from dchw.container.saving import parse, read
from dchw.quantities import FileFormatError

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("codes", "gaps", "codebooks", "code_tables", "chunk_tables", "biases", "weights", "activations", "header")
"""Streams that a file's bytes are split into. ``gaps`` are all positions: gaps, a bitmask, lists of used rows and
columns. ``weights`` are uncoded arrays of operations that are no layers, ``activations`` example inputs."""


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """One layer's bytes. ``parts`` has a whole number of bytes for every one of `PARTS`."""

    name: str
    kind: str
    weights: int
    nonzeros: int
    entries: int
    """Stored entries: fillers included for gaps; every weight if dense. Escapes carry no code and do not count."""
    fillers: int
    """Filler entries of gaps, or escapes of escaped gaps."""
    representation: str
    """Positions and coding, for people."""
    parts: Mapping[str, int]
    code_filler_bits: int
    """Bits of ``codes`` that fillers take."""
    gap_filler_bits: int
    """Bits of ``gaps`` that fillers (or escapes) take."""
    fp32_bytes: int
    """Weights and biases as float32."""

    @property
    def total_bytes(self) -> int:
        """All parts."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class FileSizes:
    """A file's bytes. The layers' parts and the file's own add up to ``file_bytes`` and ``example_bytes``."""

    file_bytes: int
    """Length of the file without recorded example inputs: what the network takes, comparable with other formats."""
    example_bytes: int
    """What the example inputs add, their entries in the header included."""
    layers: tuple[LayerSizes, ...]
    own: Mapping[str, int]
    """What belongs to no layer: directory, description, example inputs, arrays; for every one of `PARTS`."""
    directory_bytes: int
    """Of the own header: the safetensors directory."""
    description_bytes: int
    """Of the own header: graph, recipe, results and checksum."""

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of every part over the whole file."""
        return {part: self.own[part] + sum(layer.parts[part] for layer in self.layers) for part in PARTS}

    @property
    def fp32_bytes(self) -> int:
        """All parameters as float32: weights and biases of layers, and what is stored as it is."""
        return self.own["weights"] + sum(layer.fp32_bytes for layer in self.layers)

    def rows(self) -> list[dict[str, Any]]:
        """One plain row per layer, one for what belongs to none and one for the total."""
        rows = [_row(layer.name, layer.parts, layer) for layer in self.layers]
        rows.append(_row("(file)", self.own, None))
        total = _row("total", self.parts, None)
        for key in ("weights", "nonzeros", "entries", "fillers", "code_filler_bytes", "gap_filler_bytes"):
            total[key] = sum(row[key] for row in rows[:-1])
        total["density"] = total["nonzeros"] / total["weights"] if total["weights"] else None
        total["bits_per_weight"] = 8 * self.file_bytes / total["weights"] if total["weights"] else None
        total["ratio"] = self.fp32_bytes / self.file_bytes
        return [*rows, total]

    def to_frame(self) -> pd.DataFrame:
        """`rows` as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows())


def sizes(source: str | Path | bytes) -> FileSizes:
    """Where the bytes of a file go. The file is read, decoded, written again and compared: what is reported is real.

    Raises FileFormatError for a damaged file and for one whose bytes are not those that dchw writes for its content.
    """
    where, data = ("file", source) if isinstance(source, bytes) else (str(source), read(source))
    network = parse(data, where)
    content = envelope.unseal(data)
    layers = []
    for layer in network.layers:
        written = layer_bytes(layer)
        if written.join() != content.tensors[layer.name].tobytes():
            raise FileFormatError(f"{where}: layer {layer.name!r}: expected the bytes that dchw writes; got others")
        layers.append(_layer_sizes(layer, written))
    own = dict.fromkeys(PARTS, 0)
    alone = envelope.without_inputs(content)
    network_alone = envelope.unseal(alone)
    own["header"] = network_alone.directory_bytes + network_alone.description_bytes
    own["activations"] = len(data) - len(alone)
    for name, tensor in content.tensors.items():
        if name.startswith(envelope.ATTRIBUTE):
            own["weights"] += tensor.nbytes
    result = FileSizes(
        file_bytes=len(alone),
        example_bytes=own["activations"],
        layers=tuple(layers),
        own=own,
        directory_bytes=network_alone.directory_bytes,
        description_bytes=network_alone.description_bytes,
    )
    total = sum(result.parts.values())
    assert total == len(data), f"the parts of {where} are {total} bytes, the file has {len(data)}"
    return result


def _layer_sizes(layer: CompressedLayer, written: LayerBytes) -> LayerSizes:
    streams, chosen = written.streams, layer.representation
    fillers = streams.fillers
    gap_filler_bits = 0 if streams.gaps is None else int(streams.gaps.symbol_bits[fillers].sum())
    code_filler_bits = int(streams.codes.symbol_bits[fillers].sum()) if chosen.positions is Positions.GAPS else 0
    codings = [f"{chosen.code_coding.value} codes"]
    if streams.gaps is not None:
        codings.append(f"{chosen.gap_coding.value} {chosen.index_bits}-bit gaps")
    return LayerSizes(
        name=layer.name,
        kind=layer.kind.value,
        weights=layer.codes.size,
        nonzeros=layer.nonzeros,
        entries=streams.codes.symbols.size,
        fillers=int(fillers.sum()),
        representation=f"{chosen.positions.value}{', trimmed' if chosen.trim else ''}: {', '.join(codings)}",
        parts=dict.fromkeys(PARTS, 0) | written.parts,
        code_filler_bits=code_filler_bits,
        gap_filler_bits=gap_filler_bits,
        fp32_bytes=4 * (layer.codes.size + (0 if layer.bias is None else layer.bias.size)),
    )


def _row(name: str, parts: Mapping[str, int], layer: LayerSizes | None) -> dict[str, Any]:
    total = sum(parts.values())
    return {
        "layer": name,
        "weights": layer.weights if layer else 0,
        "nonzeros": layer.nonzeros if layer else 0,
        "density": layer.nonzeros / layer.weights if layer else None,
        "entries": layer.entries if layer else 0,
        "fillers": layer.fillers if layer else 0,
        **{f"{part}_bytes": parts[part] for part in PARTS},
        "total_bytes": total,
        "code_filler_bytes": layer.code_filler_bits / 8 if layer else 0.0,
        "gap_filler_bytes": layer.gap_filler_bits / 8 if layer else 0.0,
        "bits_per_weight": 8 * total / layer.weights if layer else None,
        "ratio": layer.fp32_bytes / total if layer else None,
    }
