"""Data that come late: told by the venue's own stamps, whatever its clock says, and taken back when they come in time."""

from datetime import UTC, datetime

import msgspec
import pytest

from health_room import CALM, T0, TRADE, Room, S
from truetape.core.feed.late import WINDOW, Late
from truetape.core.route import checkpoint


class Timed(Room):
    """Trades ten times a second, stamped as the test says."""

    number = 0

    def stamped(self, at: float, delay: float) -> None:
        self.until(at)
        self.number += 1
        when = datetime.fromtimestamp((self.now / S) - delay, UTC).isoformat(timespec="microseconds")
        row = {"symbol": "BTC/USD", "side": "buy", "price": 1.5, "qty": 1.0, "trade_id": self.number}
        stamp = {"timestamp": when.replace("+00:00", "Z")}
        self.frame(msgspec.json.encode({"channel": "trade", "type": "update", "data": [row | stamp]}))

    def flow(self, begin: float, end: float, delay: float, grows: float = 0.0, every: float = 0.1) -> None:
        for step in range(round((end - begin) / every)):
            self.stamped(begin + step * every, delay + grows * step * every)

    def heard(self) -> list[tuple[float, str]]:
        return [(at, state) for at, state, _ in self.statuses()]


@pytest.mark.parametrize("ahead", [0.0, 7200.0, -7200.0], ids=["right", "ahead", "behind"])
def test_a_stream_that_drips_is_stale_while_it_does_whatever_the_clock_says(ahead: float) -> None:
    room = Timed(TRADE).open()
    room.flow(0, 20, 0.05 - ahead)
    room.flow(20, 26, 0.05 - ahead, grows=0.9)  # held up ever more: nothing is missing, all is old
    told = room.statuses()
    assert [state for _, state, _ in told] == ["LIVE", "STALE"]
    at, _, why = told[1]
    assert 23.3 < at < 24.1 and why.startswith("late: stamped 3."), told[1]
    room.flow(26, 30, 0.05 - ahead)
    (back,) = room.statuses()
    assert back[1:] == ("LIVE", "") and back[0] < 26.6
    assert room.gaps() == [], "nothing was missing"


def test_nobody_is_asked_again_for_what_is_late_and_data_alone_do_not_make_it_live() -> None:
    room = Timed(TRADE).open()
    room.flow(0, 20, 0.05)
    room.flow(20, 26, 0.05, grows=0.9)
    assert room.heard()[-1][1] == "STALE"
    for step in range(600):
        room.stamped(26 + step * 0.1, 5.0)
        assert room.until(26 + step * 0.1 + 0.05) == []
    assert room.heard() == []


def test_what_is_late_and_then_silent_is_stale_for_its_silence() -> None:
    room = Timed(TRADE, timing=CALM).open()
    room.flow(0, 20, 0.05)
    room.flow(20, 26, 0.05, grows=0.9)
    room.until(40)
    last = room.statuses()[-1]
    assert last[1] == "STALE" and last[2].startswith("nothing for 3.")
    room.flow(40, 41, 0.05)
    assert room.heard() == [(40, "LIVE")]


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 4.0, -4.0])
def test_a_venue_that_sets_its_clock_is_not_late(jump: float) -> None:
    room = Timed(TRADE).open()
    room.flow(0, 20, 0.05)
    room.flow(20, 40, 0.05 - jump)
    room.flow(40, 60, 0.05)
    assert room.heard() == [(0, "LIVE")]


def test_a_clock_that_was_set_in_a_silence_alarms_no_longer_than_twenty_minutes() -> None:
    room = Timed(TRADE).open()
    room.flow(0, 20, 0.05)
    room.flow(26, 1300, 5.05, every=0.5)  # five seconds back in a silence of six: nothing tells it from lateness
    told = room.heard()
    assert [state for _, state in told] == ["LIVE", "STALE", "LIVE", "STALE", "LIVE"], "silent, then late"
    assert told[-1][0] <= 20 + 2 * WINDOW / S


def test_an_old_stamp_or_the_same_again_is_no_lateness() -> None:
    room = Timed(TRADE).open()
    room.flow(0, 20, 0.05)
    room.stamped(20, 600)  # one old trade, told once more
    room.flow(20.1, 25, 0.05)
    for step in range(40):  # the same stamp, again and again
        room.stamped(25 + step * 0.1, step * 0.1)
    assert room.heard() == [(0, "LIVE")]


def test_five_times_its_usual_delay_is_late_where_that_is_more() -> None:
    late = Late.first(0, 0)
    for step in range(1, 1000):  # between 0 and 2 s
        late.heard(step * S, step * S - (step * 7 % 9) * S // 4, 3 * S)
    assert 0.8 * S < late.usual < 1.2 * S and not late.on
    at = 1010 * S
    for step, extra in enumerate((3.5, 4.0, 4.4, 4.8)):  # it grows no faster than time passes
        late.heard(at + step * 5 * S, at + step * 5 * S - round(extra * S), 3 * S)
    assert not late.on, "three seconds would be late, but not for this one"
    for step, extra in enumerate((6.5, 6.6)):
        late.heard(at + (20 + step * 5) * S, at + (20 + step * 5) * S - round(extra * S), 3 * S)
    assert late.on


def test_it_can_be_turned_off_and_set() -> None:
    for bound, states in ((0.0, ["LIVE"]), (1.0, ["LIVE", "STALE"])):
        room = Timed(TRADE, timing=msgspec.structs.replace(CALM, late_s=bound)).open()
        room.flow(0, 20, 0.05)
        room.flow(20, 22.5, 0.05, grows=0.9)
        assert [state for _, state in room.heard()] == states


def test_lateness_is_part_of_a_checkpoint() -> None:
    room = Timed(TRADE).open()
    room.flow(0, 20, 0.05)
    room.flow(20, 26, 0.05, grows=0.9)
    other = Timed(TRADE)
    checkpoint.load(other.pump, checkpoint.save(room.pump))
    (stream,) = other.pump.links["k-1"].streams.values()
    assert stream.cause == "late" and stream.late is not None and stream.late.on
    other.now, other.number = room.now, room.number
    for one in (room, other):
        one.told()
        one.flow(26, 30, 0.05)
    assert room.heard() == other.heard() != []
    assert room.now > T0
