"""``dchw inspect``: where every byte of a compressed network goes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from dchw.cli.output import print_json, print_table

_TABLE = {
    "layer": "layer",
    "density": "density",
    "entries": "entries",
    "fillers": "fillers",
    "codes_bytes": "codes",
    "gaps_bytes": "gaps",
    "filler_bytes": "of these fillers",
    "codebooks_bytes": "codebook",
    "code_tables_bytes": "code tables",
    "chunk_tables_bytes": "chunk table",
    "biases_bytes": "biases",
    "other_bytes": "other",
    "header_bytes": "header",
    "total_bytes": "total",
    "bits_per_weight": "bits per weight",
    "ratio": "ratio",
}


@click.command(
    name="inspect", help="Where every byte of a .dchw file, or of a built-in compressed network, goes, per layer."
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--peers", is_flag=True, help="Also compress the same weights with Arm's codec and zstd (extra 'peers').")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: Path, peers: bool, as_json: bool) -> None:
    """Print the sizes of a file, why each layer is stored as it is, and optionally what other codecs make of it."""
    from dchw.importers.shipped import SHIPPED, shipped_file
    from dchw.quantities import forgiven

    built_in = None if file.exists() else forgiven(str(file), SHIPPED)
    with nullcontext(file) if built_in is None else shipped_file(built_in) as path:
        _inspect(path, peers, as_json)


def _inspect(file: Path, peers: bool, as_json: bool) -> None:
    import pandas as pd

    from dchw.compression.representation import explain
    from dchw.container import load, sizes
    from dchw.container.peers import PEER_NOTES, peer_sizes

    found = sizes(file)
    network = load(file)
    reasons = [
        {"layer": layer.name, "stored_as": row.representation, **explain(layer)}
        for layer, row in zip(network.layers, found.layers, strict=True)
    ]
    others = [row for layer in network.layers for row in peer_sizes(layer)] if peers else []
    if as_json:
        content: dict[str, Any] = {
            "network": network.name,
            "file_bytes": found.file_bytes,
            "fp32_bytes": found.fp32_bytes,
            "directory_bytes": found.directory_bytes,
            "description_bytes": found.description_bytes,
            "rows": found.rows(),
            "representations": reasons,
            "recipe": dict(network.recipe),
            "results": dict(network.results),
            "notes": list(network.graph.notes),
        }
        if peers:
            content["peers"] = others
        print_json("inspect", content)
        return
    frame = found.to_frame()
    frame["filler_bytes"] = frame["code_filler_bytes"] + frame["gap_filler_bytes"]
    frame["other_bytes"] = frame["weights_bytes"] + frame["activations_bytes"]
    examples = f" and {found.example_bytes:,} of example inputs" if found.example_bytes else ""
    notes = [
        f"{found.file_bytes:,} bytes{examples}, {found.fp32_bytes / found.file_bytes:.2f}x smaller than "
        f"{found.fp32_bytes:,} bytes of float32; the parts add up to the file's length.",
        f"(file): directory {found.directory_bytes:,} bytes, graph, recipe, results and checksum "
        f"{found.description_bytes:,} bytes.",
        "gaps: positions of any kind, lists of used rows and columns included. other: example inputs, uncoded arrays.",
        *network.graph.notes,
    ]
    print_table(f"{network.name}: bytes of {file.name}", frame[list(_TABLE)].rename(columns=_TABLE), notes)
    print_table(
        "Representation: bytes of positions, codes, tables and biases under each",
        pd.DataFrame(reasons),
        ["Each column has its best coding, the layer's index bits and trimming; 'stored as' says what the file has."],
    )
    if peers:
        table = pd.DataFrame(others)
        total = {"layer": "total", **table.drop(columns="layer").sum().to_dict()}
        print_table("The same weights in other codecs, bytes", pd.concat([table, pd.DataFrame([total])]), PEER_NOTES)
