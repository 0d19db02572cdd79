"""Was the machine asleep, or was the wall clock set? And what connections and streams make of it."""

from __future__ import annotations

from random import Random

import pytest

from tests.core.test_pump import BOOK, T0, TRADE, Room, S
from truetape.core.clocks import LEAST, Clocks, Jump, Slept, Stepped
from truetape.core.feed.session import Timing
from truetape.core.route import checkpoint
from truetape.model.effect import Close, Open, Ping
from truetape.model.event import Gap, Status

HOUR = 3600 * S


class World:
    """Three clocks and what moves them."""

    def __init__(self, boot: bool = True) -> None:
        self.wall, self.monotonic, self.boot = T0, 5 * S, 5 * S
        self.has_boot = boot
        self.clocks = Clocks(*self.read())

    def read(self) -> tuple[int, int, int | None]:
        return self.wall, self.monotonic, self.boot if self.has_boot else None

    def look(self) -> list[Jump]:
        return self.clocks.look(*self.read())

    def wait(self, ns: int) -> None:
        self.wall += ns
        self.monotonic += ns
        self.boot += ns

    def sleep(self, ns: int) -> None:
        self.wall += ns
        self.boot += ns


def test_time_that_passes_is_no_jump() -> None:
    world, random = World(), Random(3)
    for _ in range(10_000):
        world.wait(round(random.uniform(0, 30) * S))
        world.wall += random.randrange(
            -LEAST // 20, LEAST // 20
        )  # a clock that is slewed, and readings that are not quite at once
        world.boot += random.randrange(-1000, 1000)
        assert world.look() == []
    assert (world.clocks.steps, world.clocks.sleeps) == (0, 0)


@pytest.mark.parametrize("by", [HOUR, -HOUR, S // 2, -S // 2])
def test_a_wall_clock_that_is_set_is_a_step_once(by: int) -> None:
    world = World()
    world.wait(S)
    world.wall += by
    assert world.look() == [Stepped(by)]
    world.wait(S)
    assert world.look() == [] and world.clocks.last_step == by


def test_a_machine_that_slept_is_told_apart_from_a_clock_that_was_set() -> None:
    world = World()
    world.sleep(HOUR)
    assert world.look() == [Slept(HOUR)]
    world.sleep(2 * HOUR)
    world.wall -= HOUR
    assert world.look() == [Slept(2 * HOUR), Stepped(-HOUR)], "both at once, each by itself"
    assert (world.clocks.slept, world.clocks.sleeps, world.clocks.steps) == (3 * HOUR, 2, 1)


def test_where_no_clock_counts_sleep_it_is_a_step() -> None:
    world = World(boot=False)
    world.sleep(HOUR)
    assert world.look() == [Stepped(HOUR)]


# What a pump makes of them

WATCHED = Timing(ping_every_s=2, pong_within_s=2, app_ping_every_s=0, dead_after_s=10, ack_within_s=0, jitter=0)


def live() -> Room:
    """A book and trades, both LIVE, with a history of one message a second."""
    room = Room("kraken", BOOK, TRADE, how=WATCHED)
    room.book()
    for second in range(1, 60):
        room.until(second)
        room.book(kind="update")
        room.trade(second)
        room.pump.sampled("f-1", "pong", 1000.0, room.now)
    assert room.states() == {"book A-USD": "LIVE", "trade A-USD": "LIVE"}
    room.told()
    return room


def test_a_sleep_is_no_silence_of_the_venue() -> None:
    room = live()
    streams = list(room.pump.links["f-1"].streams.values())
    last = [s.last for s in streams]
    room.now += HOUR + S
    assert room.pump.sampled("", "slept", float(HOUR), room.now) == []
    why = "this machine was suspended for 3600.0 s"
    told = room.told()
    assert [(e.state, e.reason) for e in told if isinstance(e, Status)] == [
        ("WOKE", why),
        ("STALE", why),
        ("STALE", why),
    ]
    gaps = [e for e in told if isinstance(e, Gap)]
    assert [(g.from_ts, g.to_ts, g.reason) for g in gaps] == [(at, room.now, why) for at in last], "and blind since"
    effects = room.pump.tick(room.now)
    assert [type(e) for e in effects] == [Ping], "the link is asked at once, not believed, and not hung up"
    room.now += S // 10
    room.pump.sampled("f-1", "pong", 1000.0, room.now)
    room.book(kind="update")
    room.trade(1000)
    assert room.states() == {"book A-USD": "LIVE", "trade A-USD": "LIVE"}
    assert max(s.longest for s in streams) < 2 * S and max(s.threshold for s in streams) < 8 * S, (
        "the hour was not learned"
    )


def test_a_link_that_died_in_the_sleep_is_found_at_once() -> None:
    room = live()
    room.now += HOUR
    room.pump.sampled("", "slept", float(HOUR), room.now)
    effects, woke = list(room.pump.tick(room.now)), room.now
    while not any(isinstance(e, Close) for e in effects):
        assert room.pump.deadline is not None
        room.now = max(room.now, room.pump.deadline)
        effects = room.pump.tick(room.now)
    assert room.now - woke <= 2.5 * S


def test_a_sleep_while_dialing_does_not_dial_twice() -> None:
    room = Room("kraken", BOOK, how=WATCHED)
    room.pump.lost("f-1", "connection_lost: gone", room.now)
    session = room.pump.links["f-1"].session
    assert session is not None and session.state == "WAITING"
    room.now += HOUR
    room.pump.sampled("", "slept", float(HOUR), room.now)
    assert [type(e) for e in room.pump.tick(room.now)] == [Open], "what it waited for is over"
    room.now += HOUR
    room.pump.sampled("", "slept", float(HOUR), room.now)
    assert room.pump.tick(room.now) == [] and session.state == "DIALING"


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_step_of_the_wall_clock_is_told_and_changes_nothing(by: int) -> None:
    room = live()
    before = checkpoint.save(room.pump)
    assert room.pump.sampled("", "stepped", float(by), room.now) == []
    (status,) = room.told()
    assert isinstance(status, Status) and status.state == "CLOCK"
    assert (
        status.reason
        == f"the wall clock was set {'forward' if by > 0 else 'back'} by 3600.0 s; our time goes on as before"
    )
    assert checkpoint.save(room.pump) == before
