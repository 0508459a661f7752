"""What results are told apart by: the version of this package, and hashes of content."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def dchw_version() -> str:
    """Version of this package, as rows name it."""
    try:
        return version("dchw")
    except PackageNotFoundError:
        return "unknown"


def digest_of(content: object) -> str:
    """Hash of plain values: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]
