"""Is the link alive? Pings, answers and silence by a literal clock, ticks that come late included."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import msgspec
import pytest

from truetape.app.dialects import Names, dialect
from truetape.core.feed.watch import KEPT, STALL, Pings, Watch, WatchState

S = 1_000_000_000
T0 = 1_700_000_000 * S
PROFILES = {"default": (2.0, 2.0), "fast": (1.0, 1.0), "relaxed": (5.0, 10.0)}


def watch(ping: float = 0, pong: float = 0, app: float = 0, dead: float = 0) -> Watch:
    made = Watch(*(round(seconds * S) for seconds in (ping, pong, app, dead)))
    made.opened(T0)
    return made


def found_dead(one: Watch, died: int, late: list[int], stall: int = STALL) -> int:
    """Lets bytes flow until `died`, ticks each time something is due, as much later as `late` says; when the link was given up, ns."""
    last_rx, now, ticks = T0, T0, 0
    while now < died + 60 * S:
        due = min(at for at in one.times(last_rx) if at)
        now = max(now, due) + late[ticks % len(late)]
        ticks += 1
        last_rx = min(now, died)
        if now - due > stall:
            one.held_up(last_rx, now)
        if one.dead(last_rx, now):
            return now
        one.beats(last_rx, now)
    raise AssertionError("never found")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_dead_link_is_found_within_the_bound_though_every_tick_is_late(profile: str) -> None:
    """Ticks that are late by up to 0.45 s each do not add up: it stays within ping + pong + 0.5 s of the last byte."""
    ping, pong = PROFILES[profile]
    seed = 20_260_101
    random = Random(seed)
    worst = 0
    for _ in range(2000):
        died = T0 + round(random.uniform(0, 30) * S)
        late = [round(random.uniform(0, 0.45) * S) for _ in range(7)]
        worst = max(worst, found_dead(watch(ping, pong), died, late) - died)
    assert worst <= (ping + pong + 0.5) * S, f"seed {seed}"
    assert worst > (ping + pong - 0.3) * S, "and it is not found by something else"


def test_patience_is_granted_once_for_each_silence() -> None:
    """A loop that stalls again and again has read what came each time: it must not be patient for ever."""
    found = found_dead(watch(2, 2), T0 + S, [STALL + S // 10])
    assert found - T0 <= 8 * S


def test_a_ping_that_was_due_while_the_program_stood_still_leaves_time_for_its_answer() -> None:
    one = watch(1, 1)
    now = T0 + 10 * S
    one.held_up(T0, now)
    assert one.dead(T0, now) == "" and one.beats(T0, now) == ["ping"]
    assert one.times(T0)[2] >= now + S // 2


def test_pings_keep_their_grid() -> None:
    one, left = watch(2, 2), []
    for step in range(1, 2000):
        now = T0 + step * S // 10 + (step % 3) * S // 100
        one.ponged(S // 1000, now)
        if one.beats(now, now):
            left.append(now)
    assert len(left) == 99 and all(abs(b - a - 2 * S) <= S // 4 for a, b in pairwise(left))


# What answers say


def test_the_rate_counts_answers_and_what_should_have_been_answered() -> None:
    pings = Pings()
    assert pings.rate(2 * S, T0) is None
    for step in range(10):
        pings.left(T0 + step * S)
    assert pings.answer(T0 + 3 * S + 5, 40) and not pings.answer(T0 + 3 * S + 9, 50), "one answer to one ping"
    assert not pings.answer(T0 - 1, 10), "nothing had been asked"
    assert pings.rate(2 * S, T0 + 9 * S) == 1 / 8, "the last two have time still"
    for step in range(10):
        pings.answer(T0 + step * S, 60)
    assert pings.rate(2 * S, T0 + 9 * S) == 1.0 and pings.worst_ns() == 60
    assert (pings.sent, pings.answered) == (10, 10)


def test_the_rate_is_of_the_last_pings() -> None:
    pings = Pings()
    for step in range(1000):
        pings.left(T0 + step * S)
        if step % 4:
            pings.answer(T0 + step * S, 1)
    assert len(pings.rows) == KEPT and pings.rate(0, T0 + 1000 * S) == 0.75
    assert (pings.sent, pings.answered) == (1000, 750)


def test_what_was_measured_outlives_the_connection_and_what_was_due_does_not() -> None:
    one = watch(2, 2, 1, 10)
    one.beats(T0, T0 + 2 * S)
    one.asked(T0 + 2 * S)
    one.answered(T0 + 2 * S + 7_000_000, T0 + 2 * S)
    one.ponged(5_000_000, T0 + 3 * S)
    one.closed()
    on = one.state
    assert (on.ping, on.app_ping, on.pong, on.asked, on.rtt_ns, on.offset_ns) == (0, 0, 0, 0, 5_000_000, 7_000_000)
    assert (on.pings.sent, on.app_pings.answered) == (1, 1)
    one.answered(T0, T0 + 9 * S)
    assert one.state.offset_ns == 7_000_000, "an answer that nobody waits for says nothing"


def test_an_answer_that_may_be_to_an_older_ping_measures_nothing() -> None:
    """Application pongs do not say what they answer: where they take longer than the time between two pings, only the first can be told."""
    one = watch(app=1)
    for second in range(3):
        one.asked(T0 + second * S)
    one.answered(T0 + 3 * S, T0 + 3 * S)
    assert one.state.rtt_ns == 3 * S
    one.asked(T0 + 3 * S + 1)
    one.answered(T0, T0 + 4 * S)
    assert one.state.rtt_ns == 3 * S, "the second's answer, not the fourth's"
    one.answered(T0, T0 + 5 * S)
    one.answered(T0, T0 + 6 * S)
    one.asked(T0 + 7 * S)
    one.answered(T0, T0 + 7 * S + 5)
    assert one.state.rtt_ns == 5, "one on its way: its answer"
    assert one.state.app_pings.answered == one.state.app_pings.sent == 5


def test_a_state_survives_its_checkpoint() -> None:
    one = watch(2, 2, 1, 10)
    one.beats(T0, T0 + 2 * S)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(one.state), type=WatchState)
    assert kept == one.state and kept.pong == T0 + 4 * S


# A send buffer that does not empty


@pytest.mark.parametrize("profile", PROFILES)
def test_a_link_that_takes_nothing_is_dead_though_it_talks(profile: str) -> None:
    ping, pong = PROFILES[profile]
    random = Random(7)
    for _ in range(200):
        one, now, died = watch(ping, pong), T0, T0 + round(random.uniform(0, 30) * S)
        while True:
            now = max(now, one.times(now)[0]) + round(random.uniform(0, 0.02) * S)
            assert one.dead(now, now) == "", "bytes come in all the time"
            one.beats(now, now)
            if why := one.unsent(5000 + (now - T0) // S if now >= died else 0, now):
                break
        assert (now - died) <= (ping + pong + 0.5) * S
        assert why.startswith("dead_link: nothing could be written for")


def test_a_link_that_takes_little_lives() -> None:
    one = watch(2, 2)
    for step in range(100):
        assert one.unsent(100_000 - step, T0 + step * 2 * S) == ""
    assert one.unsent(0, T0 + 200 * S) == "" and one.unsent(50, T0 + 202 * S) == ""


def test_kraken_s_pong_tells_its_clock() -> None:
    kind = dialect("kraken")
    speaks = kind("kraken", Names(kind, kind.url), kind.url)
    first, second = (msgspec.json.decode(speaks.ping() or b"") for _ in range(2))
    assert first["method"] == "ping" and second["req_id"] == first["req_id"] + 1
    said = (
        b'{"method":"pong","req_id":1,"time_in":"2023-11-14T22:13:20.000100Z","time_out":"2023-11-14T22:13:20.000300Z"}'
    )
    (alive,) = speaks.decode(said, 0)
    assert (alive.ts, alive.pong) == (1_700_000_000_000_200_000, True)
    (alive,) = speaks.decode(b'{"method":"pong","time_in":"soon"}', 0)
    assert (alive.ts, alive.pong) == (0, True)
