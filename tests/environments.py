"""The fast suite under the lowest or the newest versions that ``pyproject.toml`` allows, in an environment of its own.

``python -m tests.environments lowest FOLDER --python python3.12`` makes a virtual environment in FOLDER with that
interpreter, asks uv for the versions, installs them, says which they are, and runs the fast suite; what follows is
pytest's. *lowest* takes of every requirement of the package and of its extra ``test`` the oldest release that has a
wheel for the interpreter and is within the bounds; what those require in turn is taken new, as pip would. A second run
in the same FOLDER goes on with what is installed.

PyTorch is installed apart (``--torch``), so that it comes from wherever pip finds it, without or with CUDA.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
EXTRA = "test"
"""The extra whose tests run."""


def requirements(extra: str = EXTRA) -> list[str]:
    """What the package and one of its extras require, extras of its own followed, PyTorch left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = list(project["dependencies"])
    waiting = [extra]
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            if own := re.fullmatch(rf"{project['name']}\[(.+)\]", line):
                waiting += own[1].split(",")
            elif line not in found:
                found.append(line)
    return [line for line in found if not re.match(r"torch\b", line)]


def prepare(folder: Path, resolution: str, interpreter: str, torch: str) -> Path:
    """An environment with the chosen versions and the package itself, editable; its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        _run(interpreter, "-m", "venv", str(folder))
    _run(str(python), "-m", "pip", "install", "-q", "uv", *([f"torch{torch}"] if torch else []))
    asked, pins = folder / "asked.txt", folder / "pins.txt"
    asked.write_text("\n".join(requirements()) + "\n", encoding="utf-8")
    _run(str(python), "-m", "uv", "pip", "compile", "-q", "--only-binary", ":all:", "--no-annotate", "--no-header",
         "--python", str(python), "--resolution", RESOLUTIONS[resolution], str(asked), "-o", str(pins))  # fmt: skip
    _run(str(python), "-m", "pip", "install", "-q", "-r", str(pins))
    _run(str(python), "-m", "pip", "install", "-q", "--no-deps", "-e", str(ROOT))
    return python


def chosen(folder: Path) -> str:
    """Versions of what the package itself names, one line."""
    pins = dict(line.split("==") for line in (folder / "pins.txt").read_text(encoding="utf-8").split() if "==" in line)
    names = [re.split(r"[><=\[]", line)[0] for line in requirements()]
    return ", ".join(f"{name} {pins[name.lower().replace('.', '-')]}" for name in names)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, cwd=ROOT)


def main() -> int:
    """Make the environment, run the suite in it; pytest's exit status."""
    options = argparse.ArgumentParser(
        prog="python -m tests.environments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("resolution", choices=sorted(RESOLUTIONS))
    options.add_argument("folder", type=Path, help="where the virtual environment is made, or made already")
    options.add_argument("--python", default=sys.executable, help="the interpreter (default: this one)")
    options.add_argument(
        "--torch",
        default="==2.13.0",
        help="the version specifier of PyTorch; '' leaves what is there, or none (default: ==2.13.0)",
    )
    asked, pytest = options.parse_known_args()
    python = prepare(asked.folder.resolve(), asked.resolution, asked.python, asked.torch)
    sys.stdout.write(f"{chosen(asked.folder.resolve())}\n")
    sys.stdout.flush()
    return subprocess.run([python, "-m", "pytest", "-n", "2", *pytest], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
