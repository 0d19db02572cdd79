"""The garbage collector kept out of the hot path while gateways run, and given back as it was when the last one ends."""

from __future__ import annotations

import gc

_WHILE_RUNNING = (200_000, 100, 1000)
_running = 0
_before = (0, 0, 0)


def begin() -> None:
    """What lives now is not looked at again; collections come late, for the hot path makes no cycles."""
    global _running, _before
    if not _running:
        _before = gc.get_threshold()
        gc.set_threshold(*_WHILE_RUNNING)
    _running += 1
    gc.collect()
    gc.freeze()


def end() -> None:
    """Undoes `begin`, with the last gateway that ends."""
    global _running
    _running -= 1
    if not _running:
        gc.set_threshold(*_before)
        gc.unfreeze()
