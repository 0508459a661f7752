"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dchw.quantities import DchwError

if TYPE_CHECKING:
    import pandas as pd


_listeners: list[Callable[[Path], None]] = []


@contextmanager
def told_of_files(listener: Callable[[Path], None]) -> Iterator[None]:
    """Have a listener told of every file that has appeared whole, so that a program can say what is on disk."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A place beside ``path`` to write to, moved there when the block ends well; otherwise nothing is left behind.

    Folders that are missing are made. Raises DchwError where the file cannot be written: a full disk, a name that is a
    folder, a folder that belongs to others.
    """
    target = Path(path)
    if not target.name:
        raise DchwError(f"{str(path)!r}: expected the name of a file; got none; name one")
    beside = target.with_name(f".{target.name}.{os.getpid()}.part{''.join(target.suffixes)}")
    try:
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            os.replace(beside, target)
            for listener in _listeners:
                listener(target)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "\0" not in str(path):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise DchwError(f"{target}: cannot be written ({reason}); free space or choose another place") from None


def write_frame(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as ``.csv`` or ``.parquet``, whole or not at all; raises DchwError for other names."""
    suffix = Path(path).suffix
    if suffix not in (".csv", ".parquet"):
        raise DchwError(f"{path}: expected a name ending in .csv or .parquet; got {suffix!r}; rename it")
    with whole_file(path) as beside:
        if suffix == ".csv":
            frame.to_csv(beside, index=False)
        else:
            frame.to_parquet(beside, index=False)
