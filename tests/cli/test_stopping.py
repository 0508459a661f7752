"""What a command says when it is stopped or runs out of something, against what is then on disk."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dchw
import dchw.files as files
from dchw.cli import group, main
from dchw.container.envelope import seal, unseal
from dchw.quantities import DchwError
from tests.reports.runs import tiny_network

resource = pytest.importorskip("resource", reason="Windows has no limits of a process")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.dchw"
    dchw.save(tiny_network(), path)
    return path


def stopped(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What ``dchw`` with these words says on standard error when Ctrl-C ends it."""
    monkeypatch.setattr(sys, "argv", ["dchw", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    return capsys.readouterr().err


def interrupting(after: int, folder: Path) -> Callable[..., None]:
    """Moves files into place as `os.replace` does, and is interrupted at the one in a folder after so many."""
    right, done = os.replace, [0]

    def replace(source: Path, target: Path) -> None:
        if folder not in Path(target).parents:  # a kernel that is kept, say
            right(source, target)
            return
        if done[0] == after:
            raise KeyboardInterrupt
        done[0] += 1
        right(source, target)

    return replace


@pytest.mark.parametrize("after", [0, 1, 3])
def test_ctrl_c_names_the_files_that_are_whole_and_no_other(
    after: int, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(files.os, "replace", interrupting(after, out))
    words = ["report", str(packed), "--storage", "dense-int8", "--storage", "shared"]
    said = stopped([*words, "--out", str(out / "r.html"), "--csv", str(out / "csv")], monkeypatch, capsys)
    there = sorted(str(path) for path in out.rglob("*") if path.is_file())
    if not after:
        assert "dchw: stopped; no file was written" in said
        assert there == []
        return
    named = re.search(r"dchw: stopped; written and whole: (.*)", said)
    assert named is not None
    assert sorted(named[1].split(", ")) == there
    assert len(there) == after


@pytest.mark.parametrize("limit", [resource.RLIM_INFINITY, 3 << 30])
def test_a_lack_of_memory_without_words_still_says_how_much(
    limit: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(group, "main", fails)
    monkeypatch.setattr(resource, "getrlimit", lambda what: (limit, limit))
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert re.search(r"not enough memory: more was needed beside the \d+\.\d GiB that this process held", said)
    assert ("of the 3.0 GiB that it may use" in said) == (limit == 3 << 30)
    assert "lower the batch or the sizes, or use a machine with more" in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
def test_a_network_that_does_not_fit_ends_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dchw", "compress", "vgg16-synthetic", str(tmp_path / "o.dchw")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20)),
    )
    assert done.returncode == 1
    assert re.search(r"^dchw: not enough memory: .*(GiB|MiB)", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o.dchw").exists()


HUGE = 1 << 62
ABSURD = {
    "stride 0": {"stride": [0, 0]},
    "stride huge": {"stride": [HUGE, HUGE]},
    "padding negative": {"padding": [-1, -1]},
    "padding huge": {"padding": [HUGE, HUGE]},
    "dilation 0": {"dilation": [0, 0]},
    "groups 0": {"groups": 0},
    "groups huge": {"groups": HUGE},
    "kernel huge": {"kernel": [HUGE, HUGE]},
    "stride text": {"stride": "x"},
    "stride fraction": {"stride": [0.5, 0.5]},
    "padding nothing": {"padding": None},
}


@pytest.mark.parametrize("what", ABSURD)
def test_a_sealed_file_with_absurd_attributes_is_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    content = unseal((Path(dchw.__file__).parents[1] / "models/lenet_5_frontier.dchw").read_bytes())
    hits = 0
    for index, operation in enumerate(content.description[1]):
        places = [at for at, part in enumerate(operation) if isinstance(part, dict)]
        if not places:
            continue
        hits += 1
        changed = list(operation)
        changed[places[0]] = {**operation[places[0]], **ABSURD[what]}
        operations = [*content.description[1]]
        operations[index] = changed
        description = [content.description[0], operations, *content.description[2:]]
        path = tmp_path / "hostile.dchw"
        path.write_bytes(seal(description, content.tensors))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with contextlib.suppress(DchwError):  # anything else, a ZeroDivisionError say, is a fault
            dchw.simulate(dchw.load(path), "phone-lpddr5x", "shared")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 256 << 10, f"{grown >> 10} MiB more"
    assert hits >= 2
