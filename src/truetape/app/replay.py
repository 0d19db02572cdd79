"""Recordings through the pump: a journal is fed record by record as it was judged; a capture is only watched.

The answer is the same tree for both (`app.report`). A journal may hold several runs of a gateway: each begins with a pump of its own. Books,
counts and the digest are then the last run's, `runs` has the digests of all in order, and `gaps` what lay between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from truetape.app import report as reports
from truetape.app.capture import BadInput, Observer, find_venue, lines
from truetape.app.dialects import dialect
from truetape.app.header import decode_feed, decode_feeds
from truetape.core.route import checkpoint
from truetape.core.route.pump import Pump
from truetape.core.route.router import Router
from truetape.io.clock import now as clock
from truetape.io.clock import pause
from truetape.io.store import reader
from truetape.io.store.segment import Segment
from truetape.model.event import Gap
from truetape.model.record import Command, Fetched, Frame, Header, Hole, Lost, Opened, Record, Sampled, Tick

SECOND = 1_000_000_000
FORMAT = 1


def feed_record(pump: Pump, item: Record) -> None:
    """One record into the pump. Effects are not applied: what they caused was recorded too."""
    match item:
        case Frame():
            pump.frame(item.source, item.data, item.now)
        case Tick():
            pump.tick(item.now)
        case Fetched():
            pump.fetched(item.source, item.ref, item.status, item.body, item.now, item.retry_after_s)
        case Opened():
            pump.opened(item.source, item.now)
        case Lost():
            pump.lost(item.source, item.reason, item.now, item.code, item.retry_after_s, item.said)
        case Sampled():
            pump.sampled(item.source, item.name, item.value, item.now)
        case Command():
            pump.command(item.body, item.now)
        case Hole():
            pump.hole(item.now, item.why)
        case _:
            pass  # Sent is evidence, not input


class Player:
    """Plays a journal: makes the pump that each run had, and keeps what the report needs."""

    def __init__(self, make_router: Callable[[], Router] | None = None) -> None:
        self.pump: Pump | None = None
        self.records = 0
        self.frames = 0
        self.diverged: list[str] = []
        self.runs: list[str] = []  # the digests of the runs before the last
        self.gaps: list[Gap] = []  # what they were blind to, and what lay between them
        self.holes = 0
        self._holed = False
        self._router = make_router if make_router is not None else Router

    def begin(self, header: Header) -> None:
        """A segment: the start of a run, or the continuation of one (then its checkpoint must agree with what was played)."""
        if not header.state:
            if self.pump is not None:
                self.runs.append(self.pump.digest.value())
                self.gaps += [*self.pump.gaps, *self.pump.ended("the gateway was restarted", header.now)]
            self.pump = self._fresh(header)
            self.pump.start(header.now)
        elif self.pump is None or self._holed:
            if self.pump is not None:
                self.gaps += self.pump.gaps
            self.pump = self._fresh(header)
            self.pump.start(header.now)
            checkpoint.load(self.pump, header.state)
        else:
            self.pump.digest.fold()
            kept = checkpoint.digest_of(header.state)
            if kept != self.pump.digest.link:
                self.diverged.append(f"segment {header.segment}: the recorded run's digest was {kept.hex()[:16]}…")
        self._holed = False

    def _fresh(self, header: Header) -> Pump:
        try:
            feeds = decode_feeds(header.config)
        except msgspec.DecodeError as error:
            raise BadInput(f"segment {header.segment}: its header's configuration cannot be read: {error}") from None
        return Pump(feeds, router=self._router(), seed=header.seed, now=header.now, flow=True, feed_of=decode_feed)

    def play(self, item: Record) -> None:
        """One record."""
        self.records += 1
        if item.__class__ is Frame:
            self.frames += 1
        elif item.__class__ is Hole:
            self._holed = True
            self.holes += 1
        if self.pump is not None:
            feed_record(self.pump, item)

    def forget(self) -> None:
        """What came before only led up to here: counts and digests begin anew."""
        if self.pump is not None:
            self.pump.forget()
        self.records = self.frames = 0
        self.runs.clear()
        self.gaps.clear()

    def digest(self) -> str:
        """Of the last run: what the gateway itself said when it stopped."""
        return self.pump.digest.value() if self.pump is not None else ""


class Pace:
    """Keeps the recorded pace, times a factor; `max` waits for nothing."""

    def __init__(self, speed: str) -> None:
        try:
            self.factor = 0.0 if speed == "max" else float(speed)
        except ValueError:
            self.factor = -1.0
        if self.factor < 0 or (speed != "max" and not self.factor > 0):
            raise BadInput(f"--speed: expected max or a factor above 0, found {speed!r}")
        self._began = 0
        self._first = 0

    def wait(self, now: int) -> None:
        """Until this record's time has come."""
        if not self.factor:
            return
        if not self._began:
            self._began, self._first = clock(), now
        pause(((now - self._first) / self.factor - (clock() - self._began)) / SECOND)


def moment(text: str, first: int, option: str) -> int | None:
    """A time on the command line: ns, ISO 8601, or +seconds from the first record. Raises BadInput."""
    if not text:
        return None
    try:
        if text.startswith("+"):
            return first + round(float(text[1:]) * SECOND)
        if text.isdecimal():
            return int(text)
        parsed = datetime.fromisoformat(text)
        parsed = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        return round(parsed.timestamp() * 1_000_000) * 1000
    except (ValueError, OverflowError):
        raise BadInput(f"{option}: expected ns since 1970, ISO 8601 or +seconds, found {text!r}") from None


def journal(path: Path) -> list[Segment]:
    """The segments of a journal. Raises BadInput where there is none."""
    try:
        return reader.segments(path)
    except reader.JournalError as error:
        raise BadInput(str(error)) from None


def replay(
    path: Path,
    *,
    venue: str = "",
    levels: int = 10,
    speed: str = "max",
    start: str = "",
    end: str = "",
    progress: Callable[[float, int], None] | None = None,
) -> dict[str, Any]:
    """Play a journal's folder or a capture file; the report's tree. `progress` is told the share done and records. Raises BadInput."""
    if not path.exists():
        raise BadInput(f"{path}: expected a journal's folder or a capture file, found nothing")
    pace = Pace(speed)
    if path.is_dir():
        return _journal(path, levels, pace, start, end, progress)
    return _capture(path, venue, levels, pace, start, end, progress)


def _capture(
    path: Path, venue: str, levels: int, pace: Pace, start: str, end: str, progress: Callable[[float, int], None] | None
) -> dict[str, Any]:
    observer = Observer(venue or find_venue(path))
    dialect(observer.venue)
    size = max(1, path.stat().st_size)
    begin: int | None = None
    stop: int | None = None
    bounded = False
    told = (lambda done: progress(done / size, observer.records)) if progress is not None else None
    for line in lines(path, told):
        if not bounded:
            begin, stop, bounded = moment(start, line.t, "--from"), moment(end, line.t, "--to"), True
        if stop is not None and line.t > stop:
            break
        if begin is not None and line.t >= begin:
            observer.reset()
            begin = None
        if begin is None:
            pace.wait(line.t)
        observer.feed(line)
    if not bounded:
        raise BadInput(f"{path}: expected capture lines, found an empty file")
    _refuse_nothing(begin, start, observer.records, end)
    return reports.report(
        observer.pump, records=observer.records, frames=observer.frames, errors=observer.undecodable, levels=levels
    )


def _refuse_nothing(begin: int | None, start: str, records: int, end: str) -> None:
    """A range that holds nothing is a mistake of whoever typed it."""
    if begin is not None:
        raise BadInput(f"--from: expected a time before the last record of the range, found {start!r}")
    if end and not records:
        raise BadInput(f"--to: expected a time after the first record of the range, found {end!r}")


def _batches(path: Path, start: str, progress: Callable[[float, int], None] | None) -> Iterator[Header | list[Record]]:
    """The journal's headers and batches of records, from the segment that holds the beginning asked for."""
    found = journal(path)
    first_segment = None
    if start and not start.startswith("+"):
        first_segment = reader.segment_at(path, moment(start, 0, "--from") or 0)
    first, count = found[0].number, len(found)
    records = 0
    for header, batch in reader.read_batches(path, start=first_segment):
        if header is not None:
            if progress is not None:
                progress((header.segment - first) / count, records)
            yield header
        else:
            records += len(batch)
            yield batch


def _journal(
    path: Path, levels: int, pace: Pace, start: str, end: str, progress: Callable[[float, int], None] | None
) -> dict[str, Any]:
    player = Player()
    begin: int | None = None
    stop: int | None = None
    bounded = False
    for part in _batches(path, start, progress):
        if isinstance(part, Header):
            if not bounded:
                begin, stop, bounded = moment(start, part.now, "--from"), moment(end, part.now, "--to"), True
            if stop is not None and part.now > stop:
                break  # the start of a later run
            player.begin(part)
            continue
        if stop is not None and part[0].now > stop:
            break
        begin = _play(player, part, pace, begin, stop)
    _refuse_nothing(begin, start, player.records, end)
    if player.pump is None:
        raise reader.JournalError(
            f"{path}: expected a journal that begins with a segment's header, found none that can be read; see truetape verify"
        )
    tree = reports.report(player.pump, records=player.records, frames=player.frames, errors=0, levels=levels)
    tree["digest"] = player.digest()
    tree["gaps"] = reports.gaps([*player.gaps, *player.pump.gaps])
    if player.runs:
        tree["runs"] = [*player.runs, player.digest()]
    if player.holes:
        tree["holes"] = player.holes
    if player.diverged:
        tree["diverged"] = player.diverged
    return tree


def _play(player: Player, batch: Iterable[Record], pace: Pace, begin: int | None, stop: int | None) -> int | None:
    """One batch; returns the beginning that is still to come, None once it was reached."""
    for item in batch:
        if stop is not None and item.now > stop:
            break
        if begin is not None and item.now >= begin and player.pump is not None:
            player.forget()
            begin = None
        if begin is None and pace.factor:
            pace.wait(item.now)
        player.play(item)
    return begin
