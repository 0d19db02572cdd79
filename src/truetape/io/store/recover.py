"""Makes a directory ready to be written: locks it, mends the torn tail of its last segment, finds where numbers go on.

It never writes into an existing segment but to cut a torn tail off the last one, and refuses only what it cannot judge: a
second writer, and a segment of a newer format. Damaged files are left as they are, for `reader` to name.
"""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple

from truetape.io.store.archive import TEMPORARY
from truetape.io.store.scan import Block, Damage, identify, scan, torn
from truetape.io.store.segment import FORMAT, JournalError, Preamble, Segment, listed, sync_directory
from truetape.io.store.window import look

LOCK = "lock"


class Recovered(NamedTuple):
    """What a directory holds. `journal` is None for a new one; `segment` the highest number in use, -1 none; `next` the
    number of the next record; `repaired` that a torn tail was cut off just now; `closed` every segment."""

    journal: int | None
    segment: int
    next: int
    repaired: bool
    closed: list[Segment]


def lock(directory: str) -> int:
    """Makes the directory if need be, and its lock ours: returns the descriptor that holds it. Raises `JournalError`."""
    try:
        _make(directory)
        held = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as error:
        raise JournalError(
            f"journal {directory}: expected a directory that can be written, found: {error.strerror}; change [journal] dir"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        writer = os.pread(held, 32, 0).decode("ascii", "replace").strip()
        os.close(held)
        raise JournalError(
            f"journal {directory}: expected no other writer, found process {writer or 'unknown'}; "
            "stop it, or give this one a directory of its own"
        ) from None
    except OSError as error:
        os.close(held)
        raise JournalError(
            f"journal {directory}: expected a file system with locks, found: {error.strerror}; change [journal] dir"
        ) from error
    try:
        os.pwrite(held, b"%-31d\n" % os.getpid(), 0)
    except OSError:
        pass  # a full disk: the lock holds all the same, only its owner goes unnamed
    return held


def recover(directory: str) -> Recovered:
    """Reads the end of the journal and mends it. Raises `JournalError` where it cannot be read, or must not be."""
    try:
        for name in os.listdir(directory):
            if name.endswith(".tape.zst" + TEMPORARY):
                os.unlink(os.path.join(directory, name))  # its plain segment is still there
        closed = listed(directory)
        journal, following, repaired = identify(closed), 0, False
        for segment in reversed(closed):
            identity, number, damage = _survey(segment, journal, segment is closed[-1])
            if damage is not None:
                _cut(segment, damage.offset)
                repaired = True
            journal = identity if journal is None else journal
            if number is not None:
                following = number
                break
        last = closed[-1].number if closed else -1
        return Recovered(journal, last, following, repaired, listed(directory))
    except OSError as error:
        raise JournalError(
            f"journal {directory}: expected to read and mend its last segment, found: {error}; mend the disk or its rights"
        ) from error


def _survey(segment: Segment, journal: int | None, final: bool) -> tuple[int | None, int | None, Damage | None]:
    """The journal's id, the number of the record behind the segment's last, and its torn tail; each None where there is none."""
    number: int | None = None
    with look(segment) as window:
        for part in scan(window, segment.number, journal):
            match part:
                case Preamble():
                    if part.format != FORMAT:
                        raise JournalError(
                            f"journal {segment.path}: expected format {FORMAT}, found {part.format}; "
                            "use the truetape that wrote it, or another directory"
                        )
                case Block():
                    journal = part.head.journal
                    number = max(number or 0, part.head.first + part.head.records)
                case Damage():
                    if final and torn(segment, part):
                        return journal, number, part
                    if number is not None and part.records > 0:
                        number += part.records
    return journal, number, None


def _cut(segment: Segment, length: int) -> None:
    """Cuts a segment down to a length, durably."""
    held = os.open(segment.path, os.O_WRONLY)
    try:
        os.ftruncate(held, length)
        os.fdatasync(held)
    finally:
        os.close(held)


def _make(directory: str) -> None:
    """The directory and those above it, each one's name durable."""
    if os.path.isdir(directory):
        return
    above = os.path.dirname(os.path.abspath(directory))
    _make(above)
    try:
        os.mkdir(directory, 0o750)
    except FileExistsError:
        return
    sync_directory(above)
