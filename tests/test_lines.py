"""Real captures played as two lines, with losses and delays of their own: what is merged equals the golden file of the undisturbed one."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from tests.lines_world import World
from tests.test_captures import at, book_complaints, golden, place, trade_complaints
from truetape.app import capture
from truetape.app.dialects import Names, dialect
from truetape.app.report import report
from truetape.core.feed.plan import Feed
from truetape.core.feed.second import second_line
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route.pump import Pump
from truetape.model.effect import Fetch
from truetape.model.event import Status

MS = 1_000_000
CALM = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0)
NUMBERED = [
    "binance_spot-4sym-2021-10-12",
    "binance_usdm-4sym-2021-07-22",
    "binance_coinm-10sym-2021-07-22",
    "binance_spot-btcusdt-2024-08-08",
    "binance_us-4sym-2021-10-12",
]
BY_CHECKSUM = ["kraken_v1-10sym-2021-04-17", "kraken_v2-btc_eth-2026-07-07-part", "coinbase_exchange-10sym-2021-04-17"]


def wanted(path: Path, venue: str) -> tuple[Want, ...]:
    """What the capture carries, as subscriptions."""
    observer = capture.Observer(venue)
    for line in capture.lines(path):
        observer.feed(line)
    return tuple(stream.want for link in observer.pump.links.values() for stream in link.streams.values())


class Play:
    """A capture on two lines of one connection: each message reaches each line late by its own delay, or never."""

    def __init__(self, path: Path, seed: int, loss: float, delay_ms: float, killed: float = 2.0) -> None:
        venue = capture.find_venue(path)
        kind = dialect(venue)
        lines = list(capture.lines(path))
        self.random = Random(seed)
        self.loss, self.delay = loss, delay_ms * MS
        self.end = lines[-1].t
        self.kill_at = lines[0].t + round((self.end - lines[0].t) * killed)
        names = Names(kind, kind.url)
        url = next(line.url for line in lines if line.url.startswith("ws"))
        feed = Feed("f", kind.name, venue, kind, url, kind.rest_url, wanted(path, venue), names, CALM, lines=2)
        self.lost = [0, 0]
        self.sent = self.both = 0
        self.pump = Pump([feed], now=lines[0].t, flow=True)
        self.pump.start(lines[0].t)
        for source in ("f-1", "f-1b"):
            self.pump.opened(source, lines[0].t)
        for now, number, line in self.schedule(lines, kind):
            if now >= self.kill_at and self.pump.links["f-1"].session.state == "OPEN":  # type: ignore[union-attr]
                self.pump.lost("f-1", "killed", now)
            self.step(now, number, line, kind)

    def schedule(self, lines: list[capture.Line], kind: Any) -> Iterator[tuple[int, int, capture.Line]]:
        queue: list[tuple[int, int, int, capture.Line]] = []
        last = [0, 0]
        for order, line in enumerate(lines):
            if line.dir == "in":
                self.sent += 1
                drops = [self.random.random() < self.loss for _ in (0, 1)]
                self.both += all(drops)
                for number in (0, 1):
                    if drops[number]:
                        self.lost[number] += 1
                        continue
                    last[number] = max(last[number], line.t + round(self.random.random() * self.delay))
                    heapq.heappush(queue, (last[number], order, number, line))
            elif line.dir == "http":
                heapq.heappush(queue, (line.t, order, -1, line))
        while queue:
            now, _, number, line = heapq.heappop(queue)
            yield now, number, line

    def step(self, now: int, number: int, line: capture.Line, kind: Any) -> None:
        while (due := self.pump.deadline) is not None and due <= now:
            self.pump.tick(due)
        if number < 0:
            raw = kind.snapshot_raw(line.url)
            if raw is not None:
                self.pump.fetched("f-1", f"depth:{raw}", 200, (line.data or "").encode(), now)
        elif not (number == 0 and now >= self.kill_at):
            self.pump.frame("f-1" if number == 0 else "f-1b", line.payload(), now)

    def report(self) -> dict[str, Any]:
        counts = {"records": 0, "frames": 0, "errors": 0}
        return report(self.pump, **counts, levels=10)


def differences(found: dict[str, Any], wanted: Any, *, trades: bool = True) -> list[str]:
    rows: list[str] = []
    for key, theirs in wanted["books"].items():
        rows += [
            f"book {key}: {text}"
            for text in book_complaints(at(found["books"], key), theirs)
            if "checksums" not in text
        ]
    for key, theirs in wanted["trades"].items() if trades else ():
        rows += [f"trades {key}: {text}" for text in trade_complaints(at(found["trades"], key), theirs)]
    return rows


@pytest.mark.parametrize("name", NUMBERED)
def test_two_lines_without_loss_are_one(shared_data: Path, name: str) -> None:
    play = Play(place(shared_data, name), seed=1, loss=0, delay_ms=40)
    assert differences(play.report(), golden(shared_data, name)) == []
    assert list(play.pump.gaps) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", NUMBERED)
def test_what_one_line_loses_the_other_brings(shared_data: Path, name: str, seed: int) -> None:
    """Each line loses one message in a hundred; what both lost is all that may be missing."""
    play = Play(place(shared_data, name), seed=seed, loss=0.01, delay_ms=40)
    found, wanted_of = play.report(), golden(shared_data, name)
    print(f"seed {seed}: {play.lost} of {play.sent} lost, {play.both} by both")
    blind = [key for key in wanted_of["books"] if at(found["books"], key)["state"] != "LIVE"]
    assert len(blind) <= play.both, "a change that both lost needs a snapshot, which a capture does not have twice"
    wanted_of["books"] = {key: book for key, book in wanted_of["books"].items() if key not in blind}
    assert differences(found, wanted_of, trades=not play.both) == []
    assert play.both <= max(3, play.sent // 5000), "1 % of 1 % is 0.01 %"
    for key, theirs in wanted_of["trades"].items():
        assert theirs["n"] - play.both <= at(found["trades"], key)["n"] <= theirs["n"]
    if not play.both:
        assert list(play.pump.gaps) == []


@pytest.mark.parametrize("name", [*NUMBERED[:3], *BY_CHECKSUM])
def test_the_death_of_a_line_is_no_event(shared_data: Path, name: str) -> None:
    """Its messages stop half way, the leader's: the books and trades are those of the undisturbed capture."""
    play = Play(place(shared_data, name), seed=5, loss=0, delay_ms=40, killed=0.5)
    assert play.pump.links["f-1"].session.state != "OPEN"  # type: ignore[union-attr]
    assert play.pump.links["f-1b"].leads
    assert differences(play.report(), golden(shared_data, name)) == []
    assert list(play.pump.gaps) == []


# -- a simulated venue


def true_books(world: World) -> list[str]:
    """Where a LIVE book is not the market's."""
    wrong = []
    for raw in world.market.listed:
        sync = next(link for link in world.pump.links.values() if link.leads).books[raw].sync
        assert sync is not None, "books have a sync"
        sides = [[(float(p), float(q)) for p, q in side] for side in world.market.levels(raw, 10)]
        if [sync.book.bids(10), sync.book.asks(10)] != sides:
            wrong.append(raw)
    return wrong


def ids(world: World, raw: str) -> list[int]:
    return [int(trade.id) for trade in world.trades(raw)]


def missing(world: World, raw: str) -> int:
    """Trades that nobody was told of, from the first that was."""
    told = ids(world, raw)
    last = [print_.id for change in world.market.history()[raw] for print_ in change.prints][-1]
    last += world.feed.venue != "binance"  # the others count from 1
    assert told == sorted(set(told)), "in order, each once"
    return last - told[0] + 1 - len(told)


@pytest.mark.parametrize("venue", ["binance", "kraken", "tickdb"])
def test_a_killed_line_costs_no_event_no_gap_and_no_state(venue: str) -> None:
    for seed in (1, 2, 3):
        print("seed", seed)
        world = World(venue, seed=seed).run(3)
        for _ in range(4):
            world.kill(world.pump.pairs[0].leader.source)
            world.run(2.5)
        began = len(world.market.listed) * 2
        world.settle()
        assert world.gaps() == []
        assert {state for _, _, state in world.states()} == {"LIVE"} and len(world.states()) == began
        assert [missing(world, raw) for raw in world.market.listed] == [0] * len(world.market.listed)
        assert true_books(world) == []
        assert world.replayed() == world.pump.digest.value()


def test_two_lossy_lines_are_better_than_either() -> None:
    sent = lost = 0
    for seed in range(1, 6):
        print("seed", seed)
        world = World("binance", seed=seed, loss=0.01, rate=400).run(20).settle()
        sent += sum(len(ids(world, raw)) for raw in world.market.listed)
        lost += sum(missing(world, raw) for raw in world.market.listed)
        assert true_books(world) == []
        assert all(abs(share / world.sent[name] - 0.01) < 0.006 for name, share in world.lost.items())
        assert world.replayed() == world.pump.digest.value()
    print(f"{lost} of {sent} trades lost")
    assert lost <= sent * 0.0004, "1 % of 1 %, and the luck of few"


@pytest.mark.parametrize("venue", ["binance", "kraken", "tickdb"])
def test_a_book_is_true_or_not_live_whatever_is_lost(venue: str) -> None:
    for seed in (1, 2):
        print("seed", seed)
        world = World(venue, seed=seed, loss=0.05).run(15)
        world.loss = 0.0
        world.run(15).settle()
        assert true_books(world) == []
        for raw in world.market.listed:
            told = ids(world, raw)
            assert len(told) == len(set(told)), "duplicates"


@pytest.mark.parametrize("venue", ["binance", "kraken", "tickdb"])
def test_both_lines_dead_is_a_gap_as_with_one(venue: str) -> None:
    world = World(venue, seed=4).run(3)
    for source in ("f-1", "f-1b"):
        world.kill(source)
    world.run(5).settle()
    assert {gap.channel for gap in world.gaps()} == {"book", "trade"}
    assert {(gap.symbol, gap.recovered) for gap in world.gaps() if gap.channel == "book"} >= {
        ("BTC-USDT", False),
        ("BTC-USDT", True),
    }
    assert true_books(world) == []


@pytest.mark.parametrize("venue", ["binance", "kraken", "tickdb"])
def test_who_comes_later_is_given_the_book_that_is_carried(venue: str) -> None:
    """A topic's state is the first line's book, whichever line speaks."""
    world = World(venue, seed=1).run(3)
    world.kill("f-1")
    world.run(0.5).settle()
    for raw in world.market.listed:
        topic = world.pump.router.topic("book", venue, next(w.symbol for w in world.feed.wants if w.raw == raw))
        assert topic.state is not None
        state = topic.state(5)
        assert state is not None
        assert state.bids == [(float(p), float(q)) for p, q in world.market.levels(raw, 5)[0]]


def test_a_second_line_prefers_another_address() -> None:
    world = World("kraken", seed=1)
    feed = replace(world.feed, alternates=("wss://other.example/v2",))
    assert second_line(feed, "f-1") == ("f-1b", ("wss://other.example/v2", feed.url))
    assert second_line(replace(feed, line_urls=("wss://third.example",)), "f-1")[1][0] == "wss://third.example"
    assert second_line(world.feed, "f-1") == ("f-1b", (feed.url,))
    assert Pump([feed]).links["f-1b"].url == "wss://other.example/v2"


def test_a_snapshot_is_fetched_once_for_both_lines() -> None:
    world = World("binance", seed=1).run(3)
    assert len([effect for effect in world.effects if isinstance(effect, Fetch)]) == len(world.market.listed)


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_a_checkpoint_in_the_middle_changes_nothing(venue: str) -> None:
    digests = []
    for every in (0, 97):
        world = World(venue, seed=6, loss=0.02, restart_every=every).run(4)
        world.kill(world.pump.pairs[0].leader.source)
        world.run(4)
        digests.append(world.pump.digest.value())
    assert digests[0] == digests[1]


# -- hand-over before the end of a connection's life


LIFE = Timing(lifetime_s=20)


@pytest.mark.parametrize("venue", ["binance", "kraken", "tickdb"])
def test_a_connection_rolls_before_its_end_and_nothing_is_lost_or_doubled(venue: str) -> None:
    """The venue cuts at 20 s: it never gets there."""
    for seed in (1, 2):
        print("seed", seed)
        world = World(venue, seed=seed, lines=1, faults=("lifetime-cut@0s=20",), timing=LIFE).run(60).settle()
        said = [event for event in world.events if isinstance(event, Status) and not event.channel]
        assert sum(event.state == "CLOSED" and "took over" in event.reason for event in said) >= 3
        assert not any("closed_by_venue" in event.reason for event in said)
        assert world.gaps() == []
        assert {state for _, _, state in world.states()} == {"LIVE"}
        assert [missing(world, raw) for raw in world.market.listed] == [0] * len(world.market.listed)
        assert true_books(world) == []
        assert world.peak == 2
        assert world.replayed() == world.pump.digest.value()


def test_a_short_life_rolls_too() -> None:
    faults, timing = ("lifetime-cut@0s=12",), Timing(lifetime_s=12)
    world = World("binance", seed=2, lines=1, faults=faults, timing=timing).run(60).settle()
    said = [event for event in world.events if isinstance(event, Status) and not event.channel]
    assert [event.reason for event in said if "closed_by_venue" in event.reason] == []
    assert world.gaps() == []


def test_two_lines_roll_one_after_the_other() -> None:
    world = World("binance", seed=3, lines=2, faults=("lifetime-cut@0s=20",), timing=LIFE).run(60).settle()
    said = [event for event in world.events if isinstance(event, Status) and not event.channel]
    assert sum("the other line carries on" in event.reason for event in said) >= 4
    assert world.gaps() == []
    assert {state for _, _, state in world.states()} == {"LIVE"}
    assert [missing(world, raw) for raw in world.market.listed] == [0] * len(world.market.listed)
    assert world.peak == 2


def test_a_successor_that_never_gets_ready_changes_nothing() -> None:
    world = World("kraken", seed=2, lines=1, faults=("never-ack@8s",), timing=LIFE).run(19)
    assert world.pump.links["f-1"].leads and not world.pump.links["f-1"].parked
    assert world.gaps() == []
    assert true_books(world.settle()) == []


def test_a_successor_that_is_slow_to_come_is_waited_for() -> None:
    world = World("binance", seed=2, lines=1, faults=("lifetime-cut@0s=20",), timing=LIFE, dial_s=3).run(45).settle()
    said = [event for event in world.events if isinstance(event, Status) and not event.channel]
    assert next(event.reason for event in said if event.state == "CLOSED") == "lifetime: f-1~ took over"
    assert world.gaps() == []
    assert not any("closed_by_venue" in event.reason for event in said)


def test_late_bytes_of_the_old_connection_reach_nobody() -> None:
    world = World("binance", seed=2, lines=1, timing=LIFE).run(3)
    kept = [given for what, given in world.journal if what == "frame"][-50:]
    while not world.pump.links["f-1"].parked:
        world.run(0.5)
    before = world.pump.digest.value()
    for source, data, _ in kept:
        assert world.pump.frame(source, data, world.now) == []
    assert world.pump.digest.value() == before


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_a_checkpoint_in_the_middle_of_a_hand_over_changes_nothing(venue: str) -> None:
    digests = []
    for every in (0, 97):
        world = World(venue, seed=8, lines=1, timing=LIFE, restart_every=every).run(35)
        digests.append(world.pump.digest.value())
        assert "f-1~" in world.pump.links
    assert digests[0] == digests[1]
