"""``dchw compress``: compress a network on its arrays and write a ``.dchw`` file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dchw.cli.output import print_json, print_table, progress

_OPTIONS = (
    ("density", float, "Share of weights that stay (default: the non-zero ones)."),
    ("threshold", float, "Magnitude from which weights stay."),
    ("codebook-bits", int, "Bits of a code, 1-16 (default: 8 for convolutions, 5 for linear layers)."),
    ("index-bits", str, "Bits of a gap, 1-16, or 'smallest' (default: 8 for convolutions, 5 for linear layers)."),
    ("init", str, "Centroid initialisation: linear, density, forgy or optimal."),
    ("positions", str, "gaps, escaped_gaps, bitmask, dense or smallest."),
    ("coding", str, "huffman, fixed or smallest."),
    ("code-limit", int, "Longest code word in bits."),
    ("chunk-entries", int, "Entries of a chunk."),
    ("codebook-format", str, "float32, float16 or int8."),
    ("bias-format", str, "float32, float16 or int8."),
    ("seed", int, "Seed of the random initialisation."),
)

_INPUT_HELP = "Sizes of an input that an ONNX file (SOURCE or --onnx) leaves open, x=1x3x224x224, or a scalar's value."


def input_sizes(texts: Sequence[str]) -> dict[str, tuple[int, ...] | int]:
    """Sizes, or a scalar's value, by the name of an input, from texts ``NAME=1x3x224x224``."""
    from dchw.quantities import DchwError

    out: dict[str, tuple[int, ...] | int] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        parts = sizes.lower().split("x")
        if not name or name in out or not all(part.isdecimal() and len(part) < 19 for part in parts):
            raise DchwError(f"--input: expected NAME=SIZES such as x=1x3x224x224, each name once; got {text!r}")
        numbers = tuple(int(part) for part in parts)
        out[name] = numbers if len(numbers) > 1 else numbers[0]
    return out


@click.command(name="compress", help="Compress a network without retraining and write a .dchw file.")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--recipe", "recipe_path", type=click.Path(path_type=Path), help="YAML file; other options go before it.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=SIZES", help=_INPUT_HELP)
@click.option("--prototxt", type=click.Path(path_type=Path), help="Caffe network of a released .net file.")
@click.option("--onnx", type=click.Path(path_type=Path), help="ONNX file that tells a checkpoint's geometry.")
@click.option("--geometry", type=click.Path(path_type=Path), help="JSON file: layer -> in_size, stride, padding, ...")
@click.option("--partial", is_flag=True, help="Store what has no known geometry as it is, instead of refusing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    source: str,
    target: Path,
    recipe_path: Path | None,
    inputs: tuple[str, ...],
    prototxt: Path | None,
    onnx: Path | None,
    geometry: Path | None,
    partial: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compress SOURCE (a file or a built-in name, see dchw.load_network) into TARGET.

    A SOURCE that is compressed already (a .dchw file or a published release) is only stored again: no option of the
    recipe applies to it.
    """
    import dchw
    from dchw.compression.compressed import CompressedNetwork
    from dchw.compression.recipe import Recipe
    from dchw.config import build, load_yaml
    from dchw.container import sizes
    from dchw.importers.geometry_files import geometry_from_json, geometry_from_onnx
    from dchw.quantities import DchwError

    given = {name: value for name, value in options.items() if value is not None}
    reading: dict[str, Any] = {} if prototxt is None else {"prototxt": prototxt}
    if onnx is not None or geometry is not None:
        given_sizes = input_sizes(inputs) or None
        reading["geometry"] = (
            geometry_from_json(geometry) if onnx is None else geometry_from_onnx(onnx, input_shape=given_sizes)
        )
    if inputs and onnx is None:
        reading["input_shape"] = input_sizes(inputs)
    network = dchw.load_network(source, **reading, **({"partial": True} if partial else {}))
    if isinstance(network, CompressedNetwork):
        if given or recipe_path is not None:
            raise DchwError(f"{source}: is compressed already; got a recipe for it; leave the recipe out")
        compressed = network
    else:
        recipe = Recipe() if recipe_path is None else load_yaml(Recipe, recipe_path)
        if str(given.get("index_bits", "")).isdecimal():
            given["index_bits"] = int(given["index_bits"])
        recipe = build(Recipe, {**recipe.dump(), **given}, where="options")
        with progress() as bar:
            task = bar.add_task("compressing", total=len(network.layers))
            compressed = dchw.compress(network, recipe, on_layer=lambda name: bar.advance(task))
    dchw.save(compressed, target)
    found = sizes(target)
    if as_json:
        print_json(
            "compress",
            {
                "network": compressed.name,
                "file": str(target),
                "file_bytes": found.file_bytes,
                "fp32_bytes": found.fp32_bytes,
                "ratio": found.fp32_bytes / found.file_bytes,
                "coverage": compressed.coverage.share,
                "notes": list(compressed.graph.notes),
                "rows": found.rows(),
            },
        )
        return
    columns = ["layer", "weights", "density", "entries", "fillers", "total_bytes", "bits_per_weight", "ratio"]
    note = f"dchw inspect {target} tells where every byte goes."
    notes = [*compressed.graph.notes, compressed.coverage.sentence(), note]
    print_table(f"{compressed.name}: {target}", found.to_frame()[columns], notes)


for _name, _kind, _help in reversed(_OPTIONS):
    command = click.option(f"--{_name}", type=_kind, help=_help)(command)
