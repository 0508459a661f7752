"""Results of dear stages on disk, by the content of what they follow from: what another process need not repeat.

A file is named by the digest of the computation (network, storage format, seed, the package's own sources) and opens
with the configuration's fields that it read and their values; it answers for every configuration that agrees in those.
Files are read back with a reader that makes arrays and frozen values of this package and nothing else: a study's folder
may come from somebody else.
"""

from __future__ import annotations

import copyreg
import hashlib
import io
import json
import os
import pickle
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from stat import S_ISREG
from types import MappingProxyType
from typing import Any

from dchw.config import Config
from dchw.files import whole_file
from dchw.quantities import DchwError

MOST_BYTES = 2 << 30
"""Disk that a shelf may take; the least recently used go first."""
_ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("dchw.formats.packing.packed", "_rebuild"),
    ("builtins", "mappingproxy"),
}
"""What may be called to put a result together again, besides frozen values of this package."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A folder of results."""

    folder: Path
    most_bytes: int = MOST_BYTES

    def take(self, key: object, fields: Callable[[str], object]) -> Any:
        """The result kept under a key for a configuration whose value at a dotted place ``fields`` gives, or None."""
        for path in sorted(self.folder.glob(f"{_digest(key)}-*.stage")):
            try:
                head, _, body = path.read_bytes().partition(b"\n")
                checksum, _, text = head.partition(b" ")
                if all(_plain(fields(place)) == value for place, value in json.loads(text).items()):
                    if checksum != b"%08x" % zlib.crc32(body):
                        raise ValueError("torn")
                    with suppress(OSError):
                        os.utime(path)
                    return _Reader(io.BytesIO(body)).load()
            except (OSError, ValueError, pickle.UnpicklingError, EOFError, AttributeError, TypeError):
                continue  # damaged, gone, or of another make: it is done again
        return None

    def put(self, key: object, read: Mapping[str, object], value: object) -> None:
        """Keep a result, made from these fields; a full disk costs time and nothing else."""
        told = {place: _plain(part) for place, part in read.items()}
        body = io.BytesIO()
        _Writer(body, pickle.HIGHEST_PROTOCOL).dump(value)
        content = body.getvalue()
        with suppress(DchwError, OSError):
            make_private(self.folder)
            with whole_file(self.folder / f"{_digest(key)}-{_digest(told)}.stage") as beside:
                beside.write_bytes(b"%08x %b\n%b" % (zlib.crc32(content), json.dumps(told).encode(), content))
            shrink(self.folder, self.most_bytes)


def make_private(folder: Path) -> None:
    """Make a folder, if need be, that nobody else reads or writes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def shrink(folder: Path, most_bytes: int) -> None:
    """Remove the files of a folder that were used longest ago, until the rest takes at most so many bytes."""
    found = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process has just removed it
            about = path.stat()
            if S_ISREG(about.st_mode):
                found.append((about.st_mtime, about.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > most_bytes:
            path.unlink(missing_ok=True)


class _Writer(pickle.Pickler):
    dispatch_table = {  # noqa: RUF012 - pickle reads it from the class
        **copyreg.dispatch_table,
        MappingProxyType: lambda proxy: (MappingProxyType, (dict(proxy),)),
    }


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAYS:
            return super().find_class(module, name)
        # a dotted name reaches what a module has imported: only what the module itself defines is looked at
        if module.partition(".")[0] == "dchw" and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module and _holds_values(found):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no value of this package")


def _holds_values(kind: type) -> bool:
    """Whether making one does nothing but hold values: enumerations, configurations, frozen dataclasses."""
    parameters = getattr(kind, "__dataclass_params__", None)
    return issubclass(kind, (Enum, Config)) or (parameters is not None and parameters.frozen)


def _plain(value: object) -> object:
    """A field's value as JSON reads it back."""
    return json.loads(json.dumps(value.dump() if isinstance(value, Config) else value, default=str))


def _digest(content: object) -> str:
    text = json.dumps([content, _sources()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _sources() -> str:
    """Digest of this package's sources: a stage that was changed makes its results again."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
