"""Quiet is no fault: cadences that are slow, or not known, closed markets, and what is done where silence is one after all."""

from itertools import pairwise
from random import Random

import msgspec
import pytest

from health_room import BOOK, CALM, T0, TRADE, Room, S
from truetape.core.feed.cadence import Pool
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route import checkpoint
from truetape.model.effect import Close, Send
from truetape.model.event import Status
from truetape.venues.kraken import checksum

HOUR = 3600
ACKS = msgspec.structs.replace(CALM, ack_within_s=5.0)


def symbols(count: int, channel: str = "trade") -> list[Want]:
    return [Want(channel, f"S{i}/USD", f"S{i}-USD") for i in range(count)]


@pytest.mark.parametrize("seed", range(1))
def test_a_hundred_symbols_that_trade_once_an_hour_raise_no_alarm_in_a_day(seed: int) -> None:
    print("seed", seed)
    random = Random(seed)
    wants = symbols(100)
    room = Room(*wants).open()
    at, number = 0.0, 0
    states: dict[str, int] = {}
    while (at := at + random.expovariate(100 / HOUR)) < 24 * HOUR:
        room.until(at)
        number += 1
        room.trade(number, random.choice(wants).raw)
        for _, state, _ in room.statuses():
            states[state] = states.get(state, 0) + 1
    assert set(states) == {"LIVE", "QUIET"} and room.gaps() == []
    assert states["QUIET"] < 100 * 10, "less than one in two hours for each symbol"


def test_a_channel_that_falls_silent_is_found_though_each_of_its_symbols_is_slow() -> None:
    random = Random(5)
    wants = symbols(50)
    room = Room(*wants).open()
    at = 0.0
    for number in range(400):
        room.until(at := at + random.expovariate(50 / HOUR))
        room.trade(number, random.choice(wants).raw)
    (pool,) = room.pump.links["k-1"].vigil.pools.values()
    limit = pool.threshold / S
    assert 72 < limit < 4 * HOUR
    assert "STALE" not in {row[1] for row in room.statuses()}
    room.until(at + limit)
    assert "STALE" not in {row[1] for row in room.statuses()}
    room.until(at + limit + 1.5)
    stale = [row for row in room.statuses() if row[1] == "STALE"]
    spoke = sum(stream.last > 0 for stream in room.pump.links["k-1"].streams.values())
    assert len(stale) == spoke and f"from {spoke} subscriptions" in stale[0][2]
    room.trade(1000, wants[0].raw)
    room.until(at + limit + 3)
    assert {row[1] for row in room.statuses()} == {"LIVE", "QUIET"}, "one speaks: the others are only slow again"
    assert len([gap for gap in room.gaps() if gap[3] == "stale"]) == 2 * spoke


def test_whoever_is_silent_for_longer_than_ever_is_quiet_and_not_more_often_than_that() -> None:
    room = Room(TRADE).open()
    for number, at in enumerate((0, 100, 150, 400, 480)):
        room.until(at)
        room.trade(number)
    room.until(700)
    quiet = [(at, state) for at, state, _ in room.statuses()]
    assert quiet == [(0, "LIVE"), (60.25, "QUIET"), (100, "LIVE"), (250.25, "QUIET"), (400, "LIVE")]


def test_a_threshold_that_was_just_learned_holds_at_once() -> None:
    room = Room(BOOK).open()
    room.until(5)
    for number in range(40):
        room.until(5 + number / 40)
        room.book()
    room.until(9.4)
    assert [row[:2] for row in room.statuses()] == [(5, "LIVE"), (9.0, "STALE")]


def test_prices_of_a_quiet_book_can_be_read_for_nothing_was_due() -> None:
    room = Room(BOOK).open()
    for at in range(0, 40 * 30, 30):
        room.until(at)
        room.book()
    room.until(at + 61)
    (stream,) = room.pump.links["k-1"].streams.values()
    assert stream.state == "QUIET" and stream.readable and stream.threshold >= 150 * S
    room.until(at + 400)
    assert stream.state == "STALE" and not stream.readable


def test_what_ended_a_silence_does_not_make_the_next_one_longer() -> None:
    room = Room(TRADE).open()
    for number in range(40):
        room.until(number)
        room.trade(number)
    (stream,) = room.pump.links["k-1"].streams.values()
    before = stream.threshold
    room.until(100)
    assert stream.state == "STALE"
    room.trade(50)
    assert stream.state == "LIVE" and stream.threshold == before and stream.longest == S


def test_three_silences_in_a_row_that_end_by_themselves_are_a_new_cadence() -> None:
    room = Room(TRADE, *symbols(1)).open()
    for at in range(2100):
        room.until(at)
        room.trade(at, "S0/USD")
        if at < 100 or not at % 20:
            room.trade(at)
    told = [row[1] for row in room.statuses()]
    assert told.count("STALE") == 3, "three spells, and not one more in half an hour"


def test_a_change_of_evidence_alone_is_told() -> None:
    room = Room(BOOK).open()
    room.book()
    assert [row[1] for row in room.statuses()] == ["LIVE"]
    (stream,) = room.pump.links["k-1"].streams.values()
    assert stream.sync is not None
    stream.sync.evidence = "checksum"
    room.until(0.5)
    assert [e.evidence for e in room.told() if isinstance(e, Status) and e.channel] == ["checksum"]


def test_what_is_silent_is_asked_for_again_ever_more_slowly_and_others_are_left_alone() -> None:
    loud, mute = symbols(2, "ticker")
    others = [Want("trade", "X/USD", "X-USD")]
    room = Room(mute, *others).open()
    asked: list[float] = []
    for at in range(400):
        effects = room.until(at)
        room.trade(at, "X/USD")
        assert not any(isinstance(effect, Close) for effect in effects), "the other one speaks"
        asked += [at for effect in effects if isinstance(effect, Send) and b'"subscribe"' in effect.data]
    assert asked[:6] == [121, 126, 136, 156, 196, 256] and loud.channel == "ticker"


def test_where_asking_again_does_not_help_a_silent_connection_is_opened_anew_with_growing_pauses() -> None:
    room = Room(BOOK).open()
    hung: list[float] = []
    for half in range(20_000):
        at = half / 2
        for effect in room.until(at):
            if isinstance(effect, Close):
                hung.append(at)
                assert effect.abort and effect.reason.startswith("mute: 1 subscriptions")
                room.pump.lost("k-1", "aborted", room.now)
                room.open()
    pauses = [round(b - a) for a, b in pairwise(hung)]
    assert hung[0] < 40 and pauses == sorted(pauses) and pauses[-1] >= 1800 and len(hung) <= 10, (hung, pauses)


def test_never_acknowledged_is_found_before_the_default_of_the_channel() -> None:
    room = Room(TRADE, timing=ACKS).open()
    room.until(11)
    assert room.statuses() == [(10.0, "STALE", "nothing for 10.0 s, and never acknowledged, though asked for 3 times")]


def test_what_is_remembered_of_silences_survives_a_checkpoint() -> None:
    random = Random(7)
    wants = symbols(10)
    room, again = Room(*wants).open(), Room(*wants)
    at = 0.0
    for number in range(60):
        room.until(at := at + random.expovariate(0.1))
        room.trade(number, random.choice(wants).raw)
    checkpoint.load(again.pump, checkpoint.save(room.pump))
    again.now = room.now
    room.told()
    for each in (room, again):
        each.until(at + 4 * HOUR)
    assert room.statuses() == again.statuses() and checkpoint.save(room.pump) == checkpoint.save(again.pump)


def test_a_pool_learns_anew_when_its_members_change() -> None:
    pool = Pool()
    for at in range(1, 40):
        pool.heard(["a", "b"], at * S, 0)
    assert pool.threshold >= 5 * S
    pool.heard(["a"], 41 * S, 0)
    assert pool.threshold == 0
    assert Timing().ack_within_s > 0 and T0


def test_checksums_that_fail_after_each_good_snapshot_are_suspect_and_asked_for_ever_more_slowly() -> None:
    room = Room(BOOK).open()
    good = checksum(["1010"], ["2010"])
    change = (
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":1.0,"qty":1.0}],'
        f'"asks":[{{"price":2.0,"qty":1.0}}],"checksum":{good + 1}}}]}}'
    ).encode()
    asked: list[float] = []
    room.book(more=f',"checksum":{good}')
    for tenth in range(1, 3000):
        effects = room.until(tenth / 10)
        if room.pump.links["k-1"].books["BTC/USD"].sync.live:  # type: ignore[union-attr]
            effects += room.pump.frame("k-1", change, room.now)
        if any(isinstance(effect, Send) and b'"subscribe"' in effect.data for effect in effects):
            asked.append(tenth / 10)
            room.book(more=f',"checksum":{good}')
    states = {row[1] for row in room.statuses()}
    pauses = [b - a for a, b in pairwise(asked)]
    assert "SUSPECT" in states and max(pauses) >= 60 and len(asked) < 15, asked


@pytest.mark.parametrize("seed", range(3))
def test_trades_that_come_in_bursts_raise_no_alarm_and_a_busy_symbol_that_falls_mute_does(seed: int) -> None:
    """Prints of one order come together, and then nothing for a while: what lies between orders is the cadence."""
    print("seed", seed)
    random = Random(seed)
    wants = symbols(10)
    room = Room(*wants).open()
    paces = [random.uniform(0.5, 20.0) for _ in wants]  # seconds between orders
    orders = sorted((at, want) for want, pace in zip(wants, paces, strict=True) for at in bursts(random, pace, 1800.0))
    number = 0
    for at, want in orders:
        room.until(at)
        for _ in range(random.choice((1, 2, 3, 40))):
            number += 1
            room.trade(number, want.raw)
    assert "STALE" not in {state for _, state, _ in room.statuses()} and room.gaps() == []
    streams = [stream for stream in room.pump.links["k-1"].streams.values() if stream.known]
    first = min(streams, key=lambda stream: stream.last + stream.threshold)
    due = (first.last + first.threshold - T0) / S
    assert len(streams) >= 8 and first.threshold < 400 * S
    room.until(due)
    assert first.state in ("LIVE", "QUIET")
    room.until(due + 0.5)
    assert first.state == "STALE"


def bursts(random: Random, pace: float, until: float) -> list[float]:
    at, found = 0.0, []
    while (at := at + random.expovariate(1 / pace)) < until:
        found.append(round(at, 3))
    return found


def test_a_symbol_that_trades_all_the_time_is_known_soon() -> None:
    room = Room(TRADE).open()
    for number in range(100):
        room.until(number / 40)
        room.trade(number)
    (stream,) = room.pump.links["k-1"].streams.values()
    assert stream.known and stream.threshold == 3 * S
    room.until(6)
    assert stream.state == "STALE"
