"""Six whole networks on both phones, before and after compression, as the page ``docs/six_networks.md``.

    python -m tests.peers.six_networks run [NAME ...]     # one process per network; finished ones are skipped
    python -m tests.peers.six_networks page               # the page from what is kept

What runs is ``dchw compare FILE --machine ... --csv ...``, measured from outside: wall time, processor time and peak
memory of the process. AlexNet and VGG-16 are the built-in synthetic ones, of published densities; SqueezeNet is the
authors' release; the others are torchvision's architectures with random weights, pruned and shared here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "six_networks"
PAGE = ROOT / "docs" / "six_networks.md"
MACHINES = ("phone-lpddr4x", "phone-lpddr5x")
STORAGES = ("dense-fp32", "dense-int8", "huffman-int8")
RECIPE_BITS = 5


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network, where its file comes from, and what about it is made up."""

    file: str
    """Argument of ``dchw compare``: a built-in name, or a path; ``$DCHW_DATA`` is replaced."""
    label: str
    architecture: str = ""
    """Of `tests.peers.architectures`, where the file is made here."""
    density: float = 0.0


SUBJECTS = MappingProxyType(
    {
        "AlexNet": Subject(file="alexnet-synthetic", label="SYNTHETIC weights of the densities the paper publishes"),
        "VGG-16": Subject(file="vgg16-synthetic", label="SYNTHETIC weights of the densities the paper publishes"),
        "SqueezeNet": Subject(
            file="$DCHW_DATA/squeezenet_deep_compression/compressed_SqueezeNet.net",
            label="The authors' released weights, decoded bit by bit",
        ),
        "MobileNetV2": Subject(
            file="mobilenet_v2.dchw",
            label="SYNTHETIC: random weights, 40 % of them kept",
            architecture="MobileNetV2",
            density=0.4,
        ),
        "ResNet-50": Subject(
            file="resnet_50.dchw",
            label="SYNTHETIC: random weights, 25 % of them kept",
            architecture="ResNet-50",
            density=0.25,
        ),
        "ViT-B/16": Subject(
            file="vit_b_16.dchw",
            label="SYNTHETIC: random weights, 30 % of them kept",
            architecture="ViT-B/16",
            density=0.3,
        ),
    }
)


def command(name: str, files: Path) -> list[str]:
    """The arguments of ``dchw`` for a network."""
    subject = SUBJECTS[name]
    file = str(files / subject.file) if subject.architecture else os.path.expandvars(subject.file)
    options = [part for machine in MACHINES for part in ("--machine", machine)]
    options += [part for storage in STORAGES for part in ("--storage", storage)]
    return ["compare", file, *options]


def shown(name: str) -> str:
    """The command as a reader types it."""
    first, _, *rest = command(name, Path())
    return " ".join(["dchw", first, SUBJECTS[name].file, *rest])


def make(name: str, files: Path) -> None:
    """Write the compressed network of a torchvision architecture, once."""
    import dchw
    from tests.peers.architectures import made

    subject = SUBJECTS[name]
    path = files / subject.file
    if not subject.architecture or path.exists():
        return
    module, inputs = made(subject.architecture)
    network = dchw.Network.from_module(module, inputs, name=name)
    dchw.save(dchw.compress(network, dchw.Recipe(density=subject.density, codebook_bits=RECIPE_BITS)), path)


def measured(arguments: list[str], output: Path | None = None) -> dict[str, float]:
    """Run ``dchw`` in a process of its own; wall and processor seconds and peak memory in MB."""
    began = time.monotonic()
    with open(os.devnull if output is None else output, "w", encoding="utf-8") as out:
        process = subprocess.Popen([sys.executable, "-m", "dchw", *arguments], stdout=out)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"dchw {' '.join(arguments)}: ended with status {status}")
    return {
        "wall_s": round(time.monotonic() - began, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1e3),
    }


def kept(name: str, suffix: str) -> Path:
    """Where a network's results lie."""
    return KEPT / f"{name.lower().replace('/', '_').replace('-', '_')}{suffix}"


def run(name: str, files: Path) -> None:
    """Compare one network and keep its table and what the process took; of VGG-16 also the mapping."""
    KEPT.mkdir(exist_ok=True)
    if kept(name, ".json").exists():
        return
    make(name, files)
    commit = subprocess.run(["git", "describe", "--always"], check=True, capture_output=True, text=True, cwd=ROOT)
    version = {"version": commit.stdout.strip()}
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.json"
        took = measured([*command(name, files), "--csv", str(kept(name, ".csv")), "--json"], said)
        verdicts = json.loads(said.read_text())["verdicts"]
    if name == "VGG-16":
        for machine, storage in EXPLAINED:
            measured([*explain(machine, storage), "--wide"], kept(name, f"_{machine}_{storage}.txt"))
    kept(name, ".json").write_text(
        json.dumps({"network": name, **version, **took, "verdicts": verdicts}, indent=1) + "\n"
    )


EXPLAINED = (("phone-lpddr5x", "dense-int8"), ("phone-lpddr5x", "huffman-int8"), ("phone-lpddr4x", "huffman-int8"))


def explain(machine: str, storage: str) -> list[str]:
    """The arguments of ``dchw`` that print VGG-16's order of loops."""
    return ["simulate", "vgg16-synthetic", "--machine", machine, "--storage", storage, "--explain", "--quiet"]


COLUMNS = MappingProxyType(
    {
        "multiplies": ("multiplies", 1.0),
        "file_bytes": ("file MB", 1e-6),
        "dram_read_bytes": ("DRAM read MB", 1e-6),
        "dram_write_bytes": ("written MB", 1e-6),
        "cycles": ("cycles, M", 1e-6),
        "inferences_per_s": ("inferences/s", 1.0),
        "inferences_per_j": ("inferences/J", 1.0),
        "energy_nj": ("energy mJ", 1e-6),
        "bound_by": ("bound by", 1.0),
    }
)
"""Columns of ``dchw compare --csv``, what the page calls them, and what they are multiplied with."""


def page() -> str:
    """The whole page, from what was kept."""
    runs = {name: json.loads(kept(name, ".json").read_text()) for name in SUBJECTS if kept(name, ".json").exists()}
    missing = [name for name in SUBJECTS if name not in runs]
    lines = [
        "# Six networks on two phones",
        "",
        "Whole networks before and after compression, cold weights, one image, `phone-lpddr4x` (16 nm) and "
        "`phone-lpddr5x` (7 nm). Made by `python -m tests.peers.six_networks run` and `... page`, each network "
        "at the version named with it. Where weights are SYNTHETIC, shapes and densities are what "
        "matters; file sizes of trained networks differ. What stands indented behind a table is the verdict that the "
        "command prints with it.",
        "",
    ]
    if missing:
        lines += [f"**Not run at this version: {', '.join(missing)}.** {LEFT_OUT}", ""]
    for name, took in runs.items():
        lines += _network(name, took)
    return "\n".join(lines + _mapping()) + "\n"


LEFT_OUT = "The command above runs them; their runs had not ended when the page was made."


def _network(name: str, took: dict[str, Any]) -> list[str]:
    frame = pd.read_csv(kept(name, ".csv"))
    lines = [f"## {name}", "", f"{SUBJECTS[name].label}.", "", f"    {shown(name)}", ""]
    lines += [
        f"{took['wall_s']:,.0f} s wall (beside other work), {took['cpu_s']:,.0f} s of processor time, "
        f"{took['peak_mb']:,.0f} MB at most, for {len(frame)} runs at version `{took['version']}`.",
        "",
    ]
    for machine in MACHINES:
        part = frame[frame["machine"] == machine].set_index("storage")
        lines += [f"`{machine}`:", "", _row(["storage", *(label for label, _ in COLUMNS.values())])]
        lines.append(
            _row(["---"] + ["---:" if column not in ("multiplies", "bound_by") else "---" for column in COLUMNS])
        )
        for storage, values in part.iterrows():
            cells = [str(storage)]
            for column, (_, factor) in COLUMNS.items():
                value = values[column]
                cells.append(value.partition("->")[0] if isinstance(value, str) else f"{value * factor:,.4g}")
            lines.append(_row(cells))
        lines += ["", _sentence(part), ""]
        lines += [f"> {said.partition(': ')[2]}\n" for said in took["verdicts"] if f" on {machine}:" in said]
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sentence(part: pd.DataFrame) -> str:
    """huffman-int8 against dense-int8, in the same arithmetic, and against dense-fp32."""
    after = part.loc["huffman-int8"]
    said = []
    for before in (name for name in ("dense-int8", "dense-fp32") if name in part.index):
        ratios = [part.loc[before, column] / after[column] for column in ("dram_read_bytes", "energy_nj", "cycles")]
        read, energy, cycles = (f"{ratio:.2f}x" for ratio in ratios)
        said.append(f"Of `{before}`'s DRAM reads, energy and cycles over `huffman-int8`'s: {read}, {energy}, {cycles}.")
    return " ".join(said)


def _mapping() -> list[str]:
    lines = []
    for machine, storage in EXPLAINED:
        path = kept("VGG-16", f"_{machine}_{storage}.txt")
        if path.exists():
            call = " ".join(explain(machine, storage))
            lines += [f"## VGG-16's order of loops, {storage} on {machine}", "", f"    dchw {call}", ""]
            lines += ["```text", path.read_text().rstrip(), "```", ""]
    return lines


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers.six_networks")
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument("--files", type=Path, default=Path(tempfile.gettempdir()), help="where networks are made")
    given = parser.parse_args()
    if given.what == "page":
        PAGE.write_text(page(), encoding="utf-8")
        return
    for name in given.names or SUBJECTS:
        run(name, given.files)


if __name__ == "__main__":
    main()
