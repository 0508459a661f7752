"""Memory that a command lets go is there for what it takes next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

TAKE = """
import resource, sys
import numpy as np
import dchw.cli as cli
if sys.argv[1] == "command":
    cli.group = type("Nothing", (), {"main": staticmethod(lambda **_: None)})
    try:
        cli.main()
    except SystemExit:
        pass
def take():
    for _ in range(10):
        np.ones(10_000_000, np.int32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = take()
print(take() - before)
"""
"""Pages that are taken from the system for ten arrays of 40 MB, once ten like them were let go."""


def pages(kind: str) -> int:
    out = subprocess.run([sys.executable, "-c", TAKE, kind], capture_output=True, text=True, check=True, timeout=120)
    return int(out.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's is left as it is")
def test_what_a_command_lets_go_is_taken_again():
    assert pages("command") < 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's is not known here")
def test_a_program_that_uses_the_package_is_left_as_it_is():
    assert pages("library") >= 10 * 40_000_000 // (2 << 20)  # huge pages or small ones
