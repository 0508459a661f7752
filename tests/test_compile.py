"""Kernels: what is compiled again and what is not, where compiled code lies, and who is told."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core import config, event

from dchw import kernel_cache
from dchw.compile import Kernel, inlined, kernel, lean_kernel
from dchw.compiling import told_of_compiling

pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="kernels are plain Python")

SOURCE = '''
import numpy as np
from dchw.compile import inlined, kernel, lean_kernel

STEP = 3

@inlined
def add(x: int) -> int:
    return x + STEP

@lean_kernel
def through(x: int) -> int:
    """Words."""
    return add(x)

@kernel
def total(count: int) -> int:
    found = 0
    for i in range(count):
        found += through(i)
    return found

print(total(10), "compiled:", [k.py_func.__name__ for k in (add, through, total) if k._parts or k._cache_misses])
'''


def run_source(folder: Path, source: str) -> str:
    (folder / "kernels.py").write_text(source)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-W", "error", str(folder / "kernels.py")], capture_output=True, text=True, env=environment
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


ALL = "compiled: ['add', 'through', 'total']"


def test_nothing_is_compiled_again_for_a_comment_a_docstring_or_code_that_no_kernel_reaches(tmp_path: Path) -> None:
    assert run_source(tmp_path, SOURCE) == f"75 {ALL}"
    assert run_source(tmp_path, SOURCE) == "75 compiled: []"
    other = SOURCE.replace("STEP = 3", "# a comment\nSTEP = 3\nOTHER = 4").replace("Words.", "Other words.")
    assert run_source(tmp_path, f"{other}\ndef not_a_kernel():\n    return 1\n") == "75 compiled: []"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [("STEP = 3", "STEP = 4", 85), ("return x + STEP", "return x - STEP", 15), ("add(x)", "2 * add(x)", 150)],
    ids=["constant", "callee's callee", "callee"],
)
def test_what_a_kernel_reaches_is_compiled_again_when_it_changes(
    tmp_path: Path, old: str, new: str, found: int
) -> None:
    run_source(tmp_path, SOURCE)
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE
    assert run_source(tmp_path, changed) == f"{found} {ALL}"
    assert run_source(tmp_path, SOURCE) == "75 compiled: []", "the version before is kept"


def test_two_versions_of_a_kernel_are_kept(tmp_path: Path) -> None:
    for step in range(4):
        run_source(tmp_path, SOURCE.replace("STEP = 3", f"STEP = {step}"))
    kept = list((tmp_path / "cache" / "dchw-kernels").iterdir())
    assert len(kept) == 2, kept
    assert run_source(tmp_path, SOURCE.replace("STEP = 3", "STEP = 2")) == "65 compiled: []"


def test_processes_that_start_together_on_a_cold_cache_all_run(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(SOURCE)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", str(tmp_path / "kernels.py")]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    for process in started:
        out, error = process.communicate()
        assert out.startswith("75 "), error
    assert run_source(tmp_path, SOURCE) == "75 compiled: []"


def test_the_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    run_source(tmp_path, SOURCE)
    folder = tmp_path / "cache" / "dchw-kernels"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o700}


def test_a_folder_that_others_may_write_to_or_own_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = tmp_path / "dchw-kernels"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert not kernel_cache._make_private(open_to_all)
    open_to_all.chmod(0o700)
    assert kernel_cache._make_private(open_to_all)
    monkeypatch.setattr(os, "getuid", lambda: 1 + open_to_all.stat().st_uid)
    assert not kernel_cache._make_private(open_to_all)


def test_a_link_in_the_folders_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "dchw-kernels").symlink_to(tmp_path / "elsewhere")
    assert not kernel_cache._make_private(tmp_path / "dchw-kernels")


def test_a_listener_is_told_while_kernels_are_compiled_and_not_when_they_are_found(tmp_path: Path) -> None:
    said = SOURCE.replace("import numpy as np", "from dchw.compiling import told_of_compiling").replace(
        "print(total(10)",
        "said = []\nwith told_of_compiling(lambda *told: said.append(told)):\n    total(10)\nprint(said",
    )
    assert run_source(tmp_path, said) == f"[(0, 3), (1, 3), (2, 3), (3, 3)] {ALL}"
    assert run_source(tmp_path, said) == "[] compiled: []"


def test_the_innermost_listener_is_told() -> None:
    outer: list[tuple[int, int]] = []
    inner: list[tuple[int, int]] = []

    @kernel
    def fresh(x: int) -> int:
        return x + len(outer_name)

    with told_of_compiling(lambda *told: outer.append(told)), told_of_compiling(lambda *told: inner.append(told)):
        fresh(1)
    assert (outer, inner) == ([], [(0, 1), (1, 1)])


outer_name = "a tuple of characters, whose digest is new in every run: " + os.urandom(8).hex()


def test_a_kernel_is_optimised_once_and_not_once_more_for_each_caller() -> None:
    made: list[str] = []

    class Watch(event.Listener):
        def on_start(self, event: event.Event) -> None:
            pass

        def on_end(self, event: event.Event) -> None:
            if isinstance(event.data["dispatcher"], Kernel):  # numba's own helpers may be there already, or not
                made.append(event.data["dispatcher"].py_func.__name__)

    @inlined
    def least(x: int) -> int:
        return x + 1

    @lean_kernel
    def middle(x: int) -> int:
        return least(x) + least(2)

    @kernel
    def most(x: int) -> int:
        return middle(x) + middle(3) + least(4) + len(outer_name)

    with event.install_listener("numba:compile", Watch()):
        assert most(5) == 5 + 1 + 3 + 4 + 3 + 5 + len(outer_name)
    # constants and numbers share a part; parts have no machine code of their own
    assert sorted(made) == ["least", "middle", "most"]
    assert [len(each.overloads) for each in (least, middle, most)] == [0, 0, 1]
    assert middle(5) == 9, "a part that Python calls after all is compiled for it"


def test_a_part_raises_and_takes_and_gives_arrays_as_a_function_does() -> None:
    @lean_kernel
    def checked(values: np.ndarray, at: int) -> int:
        if at >= values.size:
            raise OverflowError("beyond the last value")
        values[at] += 1
        return values[at]

    @kernel
    def made(size: int) -> np.ndarray:
        return np.arange(size)

    @kernel
    def whole(size: int, at: int) -> tuple[np.ndarray, int]:
        values = made(size)
        return values, checked(values, at)

    values, found = whole(4, 2)
    assert (values.tolist(), found) == ([0, 1, 3, 3], 3)
    with pytest.raises(OverflowError, match="beyond the last value"):
        whole(4, 4)


MOVING = """
from dchw.compile import kernel
from before import Pair

@kernel
def total(pair: Pair) -> int:
    return pair.one + pair.other

print(total(Pair(1, 2)), "compiled" if total._cache_misses else "found")
"""


def test_a_kept_kernel_that_names_a_module_that_moved_is_compiled_again_and_kept(tmp_path: Path) -> None:
    (tmp_path / "before.py").write_text(
        "from typing import NamedTuple\nclass Pair(NamedTuple):\n    one: int\n    other: int\n"
    )
    assert run_source(tmp_path, MOVING) == "3 compiled"
    (tmp_path / "before.py").rename(tmp_path / "after.py")
    moved = MOVING.replace("before", "after")
    assert run_source(tmp_path, moved) == "3 compiled"
    assert run_source(tmp_path, moved) == "3 found"


LEAN = """
import numpy as np
import dchw.compile as compiler
PLANT = "options as they are"
from dchw.compile import inlined, kernel, lean_kernel

@inlined
def least(values: np.ndarray, at: int) -> int:
    return values[at] + values.shape[0]

@lean_kernel
def doubled(values: np.ndarray, others: np.ndarray) -> int:
    found = 0
    for at in range(values.size):
        others[at] = 2 * values[at]
        found += least(values[1:] if at == 0 else values, at)
    return found

@kernel
def made(count: int) -> tuple[np.ndarray, int]:
    values, others = np.arange(count), np.zeros(count, np.int64)
    return others, doubled(values, others)

others, found = made(5)
print(others.tolist(), found, doubled(others, others), others.tolist(), doubled.targetoptions.get("_nrt"))
"""


def test_kernels_work_where_numba_has_no_option_to_count_no_references(tmp_path: Path) -> None:
    """The option has no public name: its absence is planted, and everything else stays as it is."""
    plain = run_source(tmp_path, LEAN)
    assert plain.endswith("False")
    without = LEAN.replace('PLANT = "options as they are"', "compiler.DefaultOptions = object")
    assert run_source(tmp_path, without) == plain.replace("False", "None")
    assert plain.startswith("[0, 2, 4, 6, 8] 35 ")


def test_every_kernel_of_the_package_is_defined_by_the_one_decorator() -> None:
    package = Path(kernel_cache.__file__).parent
    direct = [path for path in package.rglob("*.py") if re.search(r"@(numba\.)?n?jit\b", path.read_text())]
    assert direct == []
