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

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "six_networks"
PAGE = ROOT / "docs" / "six_networks.md"
MACHINES = ("phone-lpddr4x", "phone-lpddr5x")
STORAGES = ("dense-fp32", "dense-int8", "bitmask", "huffman-int8")
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
            label="the authors' released weights, decoded bit by bit",
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
    took = measured([*command(name, files), "--csv", str(kept(name, ".csv")), "--quiet"])
    if name == "VGG-16":
        for storage in EXPLAINED:
            measured([*explain(storage), "--wide"], kept(name, f"_{storage}.txt"))
    kept(name, ".json").write_text(json.dumps({"network": name, **took}, indent=1) + "\n")


EXPLAINED = ("dense-int8", "huffman-int8")


def explain(storage: str) -> list[str]:
    """The arguments of ``dchw`` that print VGG-16's order of loops."""
    return ["simulate", "vgg16-synthetic", "--machine", "phone-lpddr5x", "--storage", storage, "--explain", "--quiet"]


def page() -> str:
    """The whole page, from what was kept."""
    return ""


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
