"""Memory that a command lets go is kept for what it takes next.

A run takes and lets go lists of tens of megabytes, window after window, and once weights of whole layers in float32.
glibc gives such memory back to the system at once, and takes it anew, page by page, each cleared: a tenth of the
processor time of a comparison. A command keeps it until it ends, which takes 25 MB more at its peak for VGG-16 in all
formats, and 55 MB in ``dense-fp32`` alone; a program that uses this package as a library is left as it is.
"""

from __future__ import annotations

import ctypes
import platform

KEPT_BYTES = 1 << 30
"""Larger blocks are given back to the system when they are let go."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers of these two settings (``M_TRIM_THRESHOLD``, ``M_MMAP_THRESHOLD`` of ``malloc.h``)."""
_NEVER = 2**31 - 1
"""Bytes at the end of what is kept above which it is given back: the largest value."""


def keep_freed_memory() -> bool:
    """Have memory of this process kept when it is let go; whether its allocator, which must be glibc's, does so."""
    if platform.libc_ver()[0] != "glibc":
        return False
    allocator = ctypes.CDLL(None)
    return bool(allocator.mallopt(_MMAP_THRESHOLD, KEPT_BYTES) and allocator.mallopt(_TRIM_THRESHOLD, _NEVER))
