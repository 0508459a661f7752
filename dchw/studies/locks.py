"""Locks between processes: held by an open file, and let go by whoever dies."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

WAIT_SECONDS = 0.1
"""Between two looks at whether a lock was let go."""
_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})
"""What a system says of a lock that somebody else holds."""


def try_lock(file: IO[str]) -> bool:
    """Whether the lock of an open file is ours now; also where the file system has no locks, as nobody can hold it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 20)
            getattr(msvcrt, "locking")(file.fileno(), getattr(msvcrt, "LK_NBLCK"), 1)  # noqa: B009
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One at a time among all that name the same file, which is made; who comes later waits.

    Where the file cannot be made nobody waits: what is then done twice costs time and nothing else.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed below, errors of the block are none of ours
    except OSError:
        yield
        return
    with file:
        while not try_lock(file):
            time.sleep(WAIT_SECONDS)
        yield
