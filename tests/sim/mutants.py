"""Small edits of the gateway, each a mistake that somebody could make, applied at run time: the simulation has to notice every one.

    python -m tests.sim.mutants [SEEDS]     finds for each the first seed that kills it, and writes kills.txt

`MUTANTS` are those that count. `EQUIVALENT` names edits that change nothing which could be noticed, and why: another rule stands behind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from truetape.app.simtest import Verdict, judge_seed
from truetape.core.book.book import OrderBook
from truetape.core.book.sync import BookSync
from truetape.core.feed.backoff import Backoff
from truetape.core.feed.desk import SnapshotDesk
from truetape.core.feed.health import Stream
from truetape.core.feed.pace import Pace
from truetape.core.feed.session import Session
from truetape.core.feed.watch import Watch
from truetape.core.route import mailbox, modes, shed
from truetape.core.route.digest import Digest
from truetape.core.route.judge import Judge
from truetape.core.route.mailbox import Lag, Mailbox
from truetape.core.route.modes import Conflate, Fifo
from truetape.core.route.pump import Pump
from truetape.core.weather.driver import Driver
from truetape.core.weather.network import Wire

KILLS = Path(__file__).with_name("kills.txt")
Edit = tuple[object, str, Any]
"""On whom, which attribute, and what is put there."""


def _gap_accepted(self: BookSync, event: Any) -> bool:
    return not event.seq <= self.seq


def _buffer_kept(self: BookSync, state: str, reason: str) -> None:
    kept = list(self._buffer)
    _fail(self, state, reason)
    self._buffer.extend(kept)


def _stays_live(self: BookSync, state: str, reason: str) -> None:
    self.wants_snapshot = True


def _lost_stays_live(self: BookSync, reason: str) -> None:
    self.seq = -1


def _one_want_less(self: Session, now: int) -> Any:
    wants = self.asking.wants
    last = wants.popitem() if self.reconnects and len(wants) > 1 else None
    effects = _opened(self, now)
    if last is not None:
        wants[last[0]] = last[1]
    return effects


def _registry_leaks(self: Session, now: int) -> Any:
    if self.reconnects:
        self.asking.wants.pop(next(pair for pair in self.asking.wants if pair[0] == "book"), None)
    return _opened(self, now)


def _no_first_gap(self: Judge, stream: Any, *args: Any, **named: Any) -> None:
    """Only the end of a blindness is told."""
    gap = self._gap
    self._gap = lambda *a, **k: gap(*a, **k) if k.get("recovered") else None  # type: ignore[method-assign]
    try:
        _blind(self, stream, *args, **named)
    finally:
        del self._gap


def _gap_from_now(self: Judge, stream: Any, now: int, from_ts: int, *args: Any, **named: Any) -> None:
    _gap(self, stream, now, now, *args, **named)


def _no_second_gap(self: Judge, stream: Any, now: int, *, recovered: bool) -> None:
    stream.blind = None


def _delivers_twice(box: Mailbox, item: Any, out: list[Any]) -> None:
    if type(item) not in mailbox.OUTSIDE:
        box.delivered += 1
    _give(box, item, out)


def _no_lagged(self: Fifo, box: Mailbox, item: Any, out: list[Any]) -> None:
    before = len(out)
    _fifo_give(self, box, item, out)
    if type(item) is Lag:
        del out[before:]


def _last_is_lost(self: Conflate, box: Mailbox, now: int) -> None:
    if len(box.inbox) > 1 and type(box.inbox[-1]) not in mailbox.OUTSIDE:
        box.inbox.pop()
        box.conflated += 1
    _conflate_settle(self, box, now)


def _overfull(self: Fifo, box: Mailbox, over: int) -> None:
    if over > 3:
        _fifo_shed(self, box, over - 3)


def _asks_twice(self: SnapshotDesk, now: int) -> list[str]:
    due = _due(self, now)
    return due + due


def _ignores_retry_after(self: SnapshotDesk, raw: str, now: int, retry_after_s: float = -1.0) -> None:
    _failed(self, raw, now, 0.0 if retry_after_s >= 0 else retry_after_s)


def _late_bytes(self: Driver, wire: Any, item: Any) -> None:
    """What still comes of a connection that was given up is judged."""
    if not wire.alive and wire.open and item[0] == "frames":
        for data in item[1]:
            self.message(wire, data, self.clock.now)
        return
    _arrived(self, wire, item)


def _hangs_on(self: Wire) -> None:
    """A connection that was given up goes on speaking."""
    self.up.send(("cut", None))


def _sees_again(self: Stream, saved: Any) -> None:
    _stream_load(self, saved)
    self.blind = None


def _digest_of_objects(self: Digest) -> str:
    return f"{id(self):x}"


def _unsorted(self: OrderBook, bids: Any, asks: Any) -> None:
    _apply(self, bids[:-1] if len(bids) > 2 else bids, asks)


def _tick_storm(self: Pump) -> int:
    return 1


def _never(*_args: Any, **_named: Any) -> Any:
    return None


def _true(*_args: Any, **_named: Any) -> bool:
    return True


_fail, _opened = BookSync.fail, Session.opened
_blind, _gap, _give, _fifo_give = Judge.blind, Judge._gap, modes.give, Fifo._give
_stream_load, _threshold = Stream.load, Stream.__dict__["threshold"]
_conflate_settle, _fifo_shed = Conflate.settle, Fifo._shed
_due, _failed, _arrived, _apply = SnapshotDesk.due, SnapshotDesk.failed, Driver.arrived, OrderBook.apply


def _gives_nothing(_box: Mailbox, _want: int) -> tuple[int, int]:
    return 0, 0


def _untold(box: Mailbox, lost: dict[Any, int]) -> None:
    """What was shed is counted, and nobody is told."""
    box.dropped += sum(lost.values())


def _no_truncate(self: OrderBook, depth: int) -> None:
    """Levels that the venue let fall stay."""


MUTANTS: dict[str, list[Edit]] = {
    "a book accepts a gap": [(BookSync, "_in_order", _gap_accepted)],
    "a book that failed stays LIVE": [(BookSync, "fail", _stays_live)],
    "a checksum is not compared": [(BookSync, "_holds", _true)],
    "levels that fell out of the window are kept": [(OrderBook, "truncate", _no_truncate)],
    "one level of a change is not applied": [(OrderBook, "apply", _unsorted)],
    "a dead link is never noticed": [(Watch, "dead", lambda self, last_rx, now: "")],
    "silence is never stale": [(Stream, "verdict", _never)],
    "the registry loses a subscription": [(Session, "opened", _registry_leaks)],
    "a dial follows at once": [(Backoff, "wait", lambda self, at_once, least_s=-1.0: 1)],
    "the beginning of a gap is not told": [(Judge, "blind", _no_first_gap)],
    "a gap begins when it is found": [(Judge, "_gap", _gap_from_now)],
    "the end of a gap is not told": [(Judge, "seeing", _no_second_gap)],
    "a delivery is counted twice": [(modes, "give", _delivers_twice)],
    "a loss is not announced": [(Fifo, "_give", _no_lagged)],
    "conflation loses the last value": [(Conflate, "settle", _last_is_lost)],
    "a queue grows beyond its bound": [(Fifo, "_shed", _overfull)],
    "memory is short, and nothing gives way": [(shed, "_cut", _gives_nothing), (shed, "_thin", _gives_nothing)],
    "what was shed is not told": [(shed, "_mark", _untold)],
    "a snapshot is asked for twice": [(SnapshotDesk, "due", _asks_twice)],
    "a fetch does not wait as it was told": [(SnapshotDesk, "failed", _ignores_retry_after)],
    "bytes of the old connection are judged": [(Driver, "arrived", _late_bytes), (Wire, "hang_up", _hangs_on)],
    "the digest depends on the run": [(Digest, "value", _digest_of_objects)],
    "timers are always due": [(Pump, "deadline", property(_tick_storm))],
    "the venue's limit on messages is not kept": [(Pace, "free_at", property(lambda self: 0))],
    "a checkpoint forgets who is blind": [(Stream, "load", _sees_again)],
    "a threshold is ten times too long": [(Stream, "threshold", property(lambda self: 10 * _threshold.fget(self)))],
}
EQUIVALENT: dict[str, tuple[list[Edit], str]] = {
    "one subscription is not asked for after a loss": (
        [(Session, "opened", _one_want_less)],
        "it is in the registry, its silence is noticed, and it is asked for again; within the bounds",
    ),
    "a lost connection leaves its books as they were": (
        [(BookSync, "lost", _lost_stays_live)],
        "the stream is not LIVE all the same, and the first message of the next connection is a gap by its number, or a whole book",
    ),
    "changes kept for a snapshot are not forgotten": (
        [(BookSync, "fail", _buffer_kept)],
        "the bridge throws away whatever is older than the snapshot, and what follows is judged by its numbers again",
    ),
}


@contextmanager
def edited(edits: list[Edit]) -> Iterator[None]:
    """With these edits in place."""
    before = [(on, name, on.__dict__[name]) for on, name, _ in edits]
    for on, name, new in edits:
        setattr(on, name, new)
    try:
        yield
    finally:
        for on, name, old in before:
            setattr(on, name, old)


def run(edits: list[Edit], seed: int) -> Verdict:
    """One seed with these edits."""
    with edited(edits):
        return judge_seed(seed)


def kills() -> dict[str, int]:
    """What kills.txt says: mutant -> seed."""
    rows = [line.split("\t") for line in KILLS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {name: int(seed) for name, seed, *_ in rows}


def find(edits: list[Edit], seeds: range, judge: Callable[[list[Edit], int], Verdict] = run) -> Verdict | None:
    """The first seed that kills it."""
    return next((verdict for seed in seeds if (verdict := judge(edits, seed)).why), None)


def main(most: int) -> int:
    """Find them all anew; 1 where one lives."""
    lines, alive = [], []
    for name, edits in MUTANTS.items():
        found = find(edits, range(1, most + 1))
        if found is None:
            alive.append(name)
            print(f"ALIVE after {most} seeds: {name}")
            continue
        why = " ".join(found.why.split())[:100]
        lines.append(f"{name}\t{found.seed}\t{why}")
        print(lines[-1], flush=True)
    head = "# mutant, the seed that kills it, and how; written by `python -m tests.sim.mutants`\n"
    KILLS.write_text(head + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60))
