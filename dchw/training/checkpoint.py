"""Where an interrupted training goes on from: a file that is replaced, whole, after every epoch.

The first line says what the file is, its version and the SHA-256 of the rest; the rest is what ``torch.save`` writes,
of tensors, numbers, text, lists and mappings alone. It is read with ``weights_only=True``: nothing in it is ever run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dchw.quantities import DchwError, FileFormatError

VERSION = 1
_NAME = b"dchw-training"
_LONGEST_LINE = 128
_AGAIN = "delete it to train from the start"


@dataclass(kw_only=True, eq=False)
class Checkpoint:
    """The file of one training (None: none is kept) and the plan that it belongs to.

    ``plan`` holds plain values: whatever makes another training of it. A file of another plan is refused.
    """

    path: Path | None
    plan: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None where there is no file.

        Raises FileFormatError for a file that is damaged or none of ours, DchwError for one of another training.
        """
        if self.path is None or not self.path.exists():
            return None
        content = read(self.path)
        there, here = _flat(content["plan"]), _flat(self.plan)
        for key in [*here, *there]:
            if there.get(key) != here.get(key):
                raise DchwError(
                    f"{self.path}: it is the checkpoint of another training ({key}: {there.get(key)!r} there, "
                    f"{here.get(key)!r} here); name another file, or {_AGAIN}"
                )
        state: dict[str, Any] = content["state"]
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file: after a kill at any moment the old one or the new one is there, whole."""
        if self.path is None:
            return
        packed = io.BytesIO()
        torch.save({"plan": dict(self.plan), "state": dict(state)}, packed)
        data = packed.getvalue()
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            try:
                with open(beside, "wb") as out:
                    out.write(b"%s %d %s\n" % (_NAME, VERSION, hashlib.sha256(data).hexdigest().encode()))
                    out.write(data)
                    out.flush()
                    os.fsync(out.fileno())
                os.replace(beside, self.path)
            finally:
                with contextlib.suppress(OSError):
                    beside.unlink()
        except OSError as error:
            kept = "the one of an earlier epoch is still there" if self.path.exists() else "there is none so far"
            raise DchwError(
                f"{self.path}: the checkpoint cannot be written ({error.strerror or error}); {kept}; free space or "
                "name another place, and go on from there"
            ) from None


def read(path: Path) -> dict[str, Any]:
    """Plan and state of a checkpoint; raises FileFormatError for a damaged file and for one that is none."""
    try:
        with open(path, "rb") as source:
            words = source.readline(_LONGEST_LINE).split()
            data = source.read()
    except OSError as error:
        raise FileFormatError(f"{path}: the checkpoint cannot be read ({error.strerror or error}); {_AGAIN}") from None
    if len(words) != 3 or words[0] != _NAME:
        raise FileFormatError(f"{path}: expected a checkpoint of a training; it is none; name another file")
    if words[1] != b"%d" % VERSION:
        raise FileFormatError(
            f"{path}: expected version {VERSION} of a training's checkpoint; got "
            f"{words[1].decode(errors='replace')!r}; {_AGAIN}"
        )
    if hashlib.sha256(data).hexdigest().encode() != words[2]:
        raise FileFormatError(f"{path}: expected a whole checkpoint; its content does not match its SHA-256; {_AGAIN}")
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a kind of its own for every way of being foreign
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise FileFormatError(f"{path}: this torch cannot read the checkpoint ({reason}); {_AGAIN}") from None
    return content


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by dotted path, so that the first difference can be named."""
    if not isinstance(value, Mapping):
        return {path: value}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        leaves.update(_flat(item, f"{path}.{key}" if path else str(key)))
    return leaves
