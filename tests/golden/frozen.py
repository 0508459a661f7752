"""What must not move while the code is rearranged: measured through the public calls, read from tables, compared.

How the tables beside this file were derived: each row is what the public call gave, nothing is computed here.

- ``runs.csv``: `dchw.simulate` with its defaults, for every shipped network, machine preset and storage format. A
  combination that is refused has the first words of the refusal, nothing else.
- ``files.csv``: SHA-256 of every shipped ``.dchw`` file, loaded and saved again.
- ``columns.csv``: columns of the frames of a run and of `dchw.compare`, in their order. A column of nothing but text
  is ``text``: pandas 2 and 3 name its type differently.

The numbers are no claim of correctness: formulas, oracles and parity say what is right, these say that it stays. To
update them run ``python -m tests.golden.refresh``; what it prints needs a line in CHANGES.md under *Results changed*.
"""

from __future__ import annotations

import csv
import hashlib
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

import dchw
from dchw.formats import STORAGE_FORMATS

Row = Mapping[str, str]
Table = Mapping[tuple[str, ...], Row]
"""Rows of text by their key."""

HERE = Path(__file__).parent
FILES = {path.stem: path for path in sorted((HERE.parents[1] / "models").glob("*.dchw"))}
"""The shipped networks."""
MACHINES = tuple(sorted(path.stem for path in Path(dchw.__file__).parent.rglob("presets/*.yaml")))
STORAGES: tuple[str, ...] = tuple(STORAGE_FORMATS)

KEYS = {"runs": ("network", "machine", "storage"), "files": ("network",), "columns": ("frame", "position")}
"""Columns that name a row, for each table."""
VALUES = {
    "runs": ("refusal", "digest", "cycles", "energy_pj", "dram_read_bytes", "dram_write_bytes"),
    "files": ("sha256",),
    "columns": ("column", "kind"),
}
ENERGY_TOLERANCE = 1e-9
"""Relative: room for another order of a sum, not for another figure. Everything else is equal to the character."""
_REFUSAL_WORDS = 8


def tiny() -> dchw.CompressedNetwork:
    """A linear layer with a bias whose few values need no rounding, so that no float arithmetic decides its bytes."""
    quarters = np.arange(12 * 20).reshape(12, 20) * 7 % 11 - 5
    weight = np.where(np.abs(quarters) >= 3, quarters, 0).astype(np.float32) / 4
    bias = np.arange(12, dtype=np.float32) / 8
    network = dchw.Network.from_arrays("tiny", weights={"fc": weight}, biases={"fc": bias})
    return dchw.compress(network, dchw.Recipe(density=0.5, codebook_bits=3))


def saved(network: dchw.CompressedNetwork) -> bytes:
    """The bytes of the file that `dchw.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "net.dchw")
        dchw.save(network, place)
        return place.read_bytes()


def measure_run(network: dchw.CompressedNetwork, machine: str, storage: str) -> Row:
    """The row of one run; a fault of the simulator is no refusal and is raised."""
    row = dict.fromkeys(VALUES["runs"], "")
    try:
        run = dchw.simulate(network, machine, storage)
    except dchw.SimulationError:
        raise
    except dchw.DchwError as error:
        return row | {"refusal": " ".join(str(error).split()[:_REFUSAL_WORDS])}
    return row | {
        "digest": run.timing.program_digest,
        "cycles": str(run.cycles),
        "energy_pj": repr(float(run.energy_pj)),
        "dram_read_bytes": str(run.dram_read_bytes),
        "dram_write_bytes": str(run.dram_write_bytes),
    }


def measure_runs(name: str) -> Table:
    """Every run of a shipped network."""
    network = dchw.load(FILES[name])
    return {
        (name, machine, storage): measure_run(network, machine, storage) for machine in MACHINES for storage in STORAGES
    }


def measure_files() -> Table:
    """The hash of every shipped network, saved again."""
    return {
        (name,): {"sha256": hashlib.sha256(saved(dchw.load(path))).hexdigest()} for name, path in sorted(FILES.items())
    }


def measure_columns() -> Table:
    """The columns of every frame, from one small run."""
    runs: list[dchw.SimResult] = []
    rows = dchw.compare(tiny(), "phone-lpddr5x", storages=["huffman"], on_result=lambda _, run: runs.append(run))
    frames = {
        "to_frame": runs[0].to_frame(),
        "units_frame": runs[0].units_frame(),
        "layers_frame": runs[0].layers_frame(),
        "compare": rows,
    }
    return {
        (name, f"{position:02}"): {"column": str(column), "kind": _kind(frame[column])}
        for name, frame in frames.items()
        for position, column in enumerate(frame.columns)
    }


def _kind(column: pd.Series) -> str:
    return "text" if all(isinstance(value, str) for value in column) else str(column.dtype)


def read(table: str) -> Table:
    """A frozen table."""
    with open(HERE / f"{table}.csv", encoding="utf-8", newline="") as file:
        return {
            tuple(line[key] for key in KEYS[table]): {value: line.get(value, "") for value in VALUES[table]}
            for line in csv.DictReader(file)
        }


def write(table: str, rows: Table) -> None:
    """Freeze a table."""
    with open(HERE / f"{table}.csv", "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow((*KEYS[table], *VALUES[table]))
        out.writerows((*key, *(row[value] for value in VALUES[table])) for key, row in rows.items())


def moved(frozen: Table, found: Table) -> list[str]:
    """A line for every value that differs and every row that is on one side only."""
    lines = []
    for key in dict.fromkeys((*frozen, *found)):
        where = " ".join(key)
        if key not in found:
            lines.append(f"{where}: is gone")
        elif key not in frozen:
            lines.append(f"{where}: is new")
        else:
            lines += [
                f"{where}: {name} was {value!r}, is {found[key][name]!r}"
                for name, value in frozen[key].items()
                if not _same(name, value, found[key][name])
            ]
    return lines


def _same(name: str, one: str, other: str) -> bool:
    if name == "energy_pj" and one and other:
        return math.isclose(float(one), float(other), rel_tol=ENERGY_TOLERANCE)
    return one == other
