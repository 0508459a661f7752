"""Daemons that a test of a batch system starts, and what their commands say."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

LOGS = ("*.out", "*.log")


def said(command: list[str], environment: dict[str, str]) -> bytes:
    """What a command prints, whether it fails or not."""
    return subprocess.run(command, env=environment, capture_output=True).stdout


def wait_until(holds: Callable[[], bool], folder: Path, system: str, seconds: float = 60) -> None:
    """Wait for a batch system; AssertionError with the ends of the logs in its folder where it does not start."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            logs = {path.name: path.read_text(errors="replace")[-800:] for log in LOGS for path in folder.glob(log)}
            raise AssertionError(f"{system} did not start: {logs}")
        time.sleep(0.2)


def stop(daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what was started, the last first."""
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(timeout=20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
