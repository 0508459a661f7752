"""Is a dear stage done once for all processes, for just the machines it fits, and is a bad file harmless?"""

from __future__ import annotations

import io
import os
import pickle
import zlib
from pathlib import Path

import pytest

import dchw
from dchw.studies import shelf as module
from dchw.studies import watching
from dchw.studies.point_stages import RunOptions, Stages
from dchw.studies.shelf import Shelf, _Reader, shrink
from tests.reports.runs import tiny_network


@pytest.fixture(autouse=True)
def everything_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "DEAR_SECONDS", -1.0)


def row(folder: Path, units: int = 16, cell: str = "itrs-lop") -> tuple[dict[str, object], int]:
    """The row of a fresh process, so to say, and how many mappings it had to make."""
    stages = Stages(shelf=Shelf(folder=folder))
    target = dchw.machine("phone-lpddr5x").replace_all({"huffman.units": units, "silicon.sram_cell": cell})
    return stages.row("tiny", tiny_network(), target, RunOptions(storage="huffman")), stages.made[0]


def test_what_one_process_mapped_another_need_not(tmp_path: Path) -> None:
    first, made = row(tmp_path)
    assert made == 1
    assert row(tmp_path) == (first, 0)
    assert row(tmp_path, cell="itrs-hp")[1] == 0  # mapping does not read it
    assert row(tmp_path, units=8)[1] == 1
    assert row(tmp_path, units=8)[1] == 0


def test_what_one_process_multiplied_another_need_not(tmp_path: Path) -> None:
    """Also on a machine for which everything is packed and mapped anew; what decodes otherwise is multiplied again."""
    first, second = (Stages(shelf=Shelf(folder=tmp_path)) for _ in range(2))
    base = dchw.machine("phone-lpddr5x")
    first.row("tiny", tiny_network(), base, RunOptions(storage="huffman"))
    (passing,) = first._passes.values()
    assert passing.computed > 0
    fewer = base.replace("huffman.units", 4)
    got = second.row("tiny", tiny_network(), fewer, RunOptions(storage="huffman"))
    assert got == Stages().row("tiny", tiny_network(), fewer, RunOptions(storage="huffman"))
    (passing,) = second._passes.values()
    assert (second.made[0], passing.computed) == (1, 0)
    second.row("tiny", tiny_network(), base, RunOptions(storage="dense-int8"))
    assert passing.computed > 0


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_the_folder_is_private(tmp_path: Path) -> None:
    row(tmp_path / "cache" / "stages")
    assert (tmp_path / "cache" / "stages").stat().st_mode & 0o777 == 0o700


def test_sources_that_changed_do_not_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row(tmp_path)
    monkeypatch.setattr(module, "_sources", lambda: "other sources")
    assert row(tmp_path)[1] == 1


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    first, _ = row(tmp_path)
    for path in tmp_path.glob("*.stage"):
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes({"torn": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])
    assert row(tmp_path) == (first, 1)
    assert row(tmp_path)[1] == 0


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("never"),)  # type: ignore[return-value]


def test_nothing_foreign_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, _ = row(tmp_path)
    for path in tmp_path.glob("*.stage"):
        head = path.read_bytes().partition(b"\n")[0].partition(b" ")[2]
        body = pickle.dumps(({}, Evil()))
        path.write_bytes(b"%08x %b\n%b" % (zlib.crc32(body), head, body))
    assert row(tmp_path) == (first, 1)
    assert not (tmp_path / "never").exists()


def called(where: str, name: str) -> bytes:
    """A pickle that calls what a module has under a (dotted) name with the path ``never``."""
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (where, name))
    return b"\x80\x04" + texts + b"\x93\x8c\x05never\x85R."


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("dchw.reports.printing", "subprocess.Popen"),  # a class behind an import
        ("dchw.files", "Path"),  # a class of another package
        ("dchw.studies.shelf", "shrink"),  # a function
        ("dchw.studies.shelf", "_Reader"),  # a class that does more than hold values
        ("os", "mkdir"),
    ],
)
def test_the_reader_makes_frozen_values_of_this_package_only(where: str, name: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match="is no value of this package"):
        _Reader(io.BytesIO(called(where, name))).load()


def test_a_shelf_is_bounded(tmp_path: Path) -> None:
    for units in (4, 8, 16):
        row(tmp_path, units)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.stage")]
    shrink(tmp_path, max(sizes))
    assert len(list(tmp_path.glob("*.stage"))) == 1
