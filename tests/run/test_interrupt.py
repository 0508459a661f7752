"""Is Ctrl-C heard while kernels run? In a process of its own, in the middle of an engine's run and of a replay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from numba.core import config

STAT = "/proc/{}/stat"
MOST_CPU_SECONDS = 2.5
"""From the signal to the end of the process, which takes 0.3 to 0.6 of them where calls of kernels are short."""

pytestmark = [
    pytest.mark.skipif(not Path(STAT.format("self")).exists(), reason="needs /proc to tell what a process used"),
    pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is deaf without kernels"),
]

START = """
import signal, sys
import numpy as np
import dchw
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore Ctrl-C
rng = np.random.default_rng(0)
"""
RUN = f"""{START}
from tests.parity.broadcast import broadcast_program, random_work
from dchw.engines.fast import engine
few, many = (broadcast_program(random_work(rng, n, 4096, 64, 0.1), depth=8, decoders=16) for n in (8, 60_000))
engine.run(few)
print("ready", flush=True)
while True:
    engine.run(many)
"""
REPLAY = f"""{START}
trace = rng.integers(0, 1 << 24, 6_000_000) * 64, np.zeros(6_000_000, bool)
dchw.replay((trace[0][:100], trace[1][:100]), "LPDDR5-6400")
print("ready", flush=True)
while True:
    dchw.replay(trace, "LPDDR5-6400")
"""
COMPILE = f"""{START}
import hashlib
from numba.core.registry import CPUDispatcher
from dchw.cli import main
def compile(self, sig):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"as deaf", b"as LLVM", 40_000_000)
CPUDispatcher.compile = compile
sys.argv = ["dchw", "simulate", "lenet-300-100", "--quiet"]
main()
"""
COMPILE_IN_MAIN_THREAD = COMPILE.replace(
    "from dchw.cli", "import dchw.compile as c; c._apart = lambda work: work()\nfrom dchw.cli"
)
DEAF = f"""{START}
from dchw.compile import kernel
@kernel
def deaf(count: int) -> int:
    found = 0
    for i in range(count):
        found = (found * 3 + i) % 1_000_003
    return found
deaf(8)
print("ready", flush=True)
deaf(1_500_000_000)
"""


def cpu_seconds_after_ctrl_c(source: str) -> float:
    """Processor time that a process takes to end after Ctrl-C a second into what it does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    begun = used(process.pid)
    while used(process.pid) < begun + 1.5:
        time.sleep(0.02)
    before = used(process.pid)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    assert process.returncode != 0
    assert said.rstrip().endswith(("KeyboardInterrupt", "dchw: stopped; no file was written"))
    return usage.ru_utime + usage.ru_stime - before


def used(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(STAT.format(pid)).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("source", [RUN, REPLAY, COMPILE], ids=["run", "replay", "compile"])
def test_ctrl_c_is_heard_while_kernels_run_or_are_made(source: str) -> None:
    assert cpu_seconds_after_ctrl_c(source) < MOST_CPU_SECONDS


@pytest.mark.parametrize("source", [DEAF, COMPILE_IN_MAIN_THREAD], ids=["kernel", "compiler"])
def test_what_hears_nothing_is_found(source: str) -> None:
    assert cpu_seconds_after_ctrl_c(source) > MOST_CPU_SECONDS
