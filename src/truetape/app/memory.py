"""Resident memory of this process: how much, how much is allowed, and giving free memory back to the system."""

from __future__ import annotations

import ctypes
import resource
from functools import cache
from pathlib import Path

from truetape.app import calm

_STATM, _STATUS = Path("/proc/self/statm"), Path("/proc/self/status")
_PAGE = resource.getpagesize()


def rss() -> int:
    """Resident bytes now (Linux), else the peak."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak() -> int:
    """The most that was ever resident, bytes. Not `ru_maxrss`, which a process that begins anew in place takes over from the one before."""
    try:
        rows = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines())
        return max(rss(), int(rows["VmHWM"].split()[0]) * 1024)  # the kernel notes it a little late
    except (OSError, ValueError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tidy() -> None:
    """Collect garbage, and give back what is free."""
    calm.collect()
    trim()


def trim() -> None:
    """Let the allocator of C return what is free; freed events leave holes that it would keep for later."""
    if (release := _malloc_trim()) is not None:
        release(0)


@cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    """glibc's `malloc_trim`; other libraries of C have none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
