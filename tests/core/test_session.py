"""One connection, by a literal clock: what it sends, when it dials, what it hangs up for, and that no timer is missed or storms."""

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truetape.app.dialects import Names, dialect
from truetape.core.feed.acks import Acks
from truetape.core.feed.backoff import Jitter
from truetape.core.feed.due import SessionState
from truetape.core.feed.pace import Pace
from truetape.core.feed.session import ASKS_MAX, GARBAGE_MAX, Session, Timing
from truetape.core.feed.venue import Accepted, Rejected, Want
from truetape.model.effect import Close, Effect, Open, Ping, Send

S = 1_000_000_000
T0 = 1_700_000_000 * S
QUIET = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0)
"""Nothing by the clock but what a test turns on."""


def timing(**named: Any) -> Timing:
    return msgspec.structs.replace(QUIET, **named)


def books(count: int, channel: str = "book") -> list[Want]:
    return [Want(channel, f"S{i}/USD", f"S{i}-USD") for i in range(count)]


class World:
    """A session by itself, driven by its own deadlines; `did` holds (seconds since T0, effect)."""

    def __init__(
        self, wants: Iterable[Want] = (), how: Timing = QUIET, venue: str = "kraken", seed: int = 1, url: str = "ws://x"
    ) -> None:
        kind = dialect(venue)
        self.now = T0
        self.did: list[tuple[float, Effect]] = []
        self.session = Session("c-1", kind(venue, Names(kind, url), url), url, list(wants), how, Random(seed))

    def take(self, effects: list[Effect]) -> None:
        self.did += [((self.now - T0) / S, effect) for effect in effects]

    def open(self) -> "World":
        self.take(self.session.start(self.now))
        self.take(self.session.opened(self.now))
        self.did.clear()
        return self

    def until(self, seconds: float) -> None:
        """Let time pass, ticking at deadlines only; each tick must put the next one off."""
        end = T0 + round(seconds * S)
        while (due := self.session.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self.take(self.session.tick(self.now))
            after = self.session.deadline
            assert after is None or after > self.now, "a tick leaves nothing due: no storm"
        self.now = end

    def hear(self) -> None:
        """Bytes came."""
        self.session.last_rx = self.now

    def times(self, kind: type) -> list[float]:
        return [round(at, 6) for at, effect in self.did if isinstance(effect, kind)]

    def sent(self) -> list[bytes]:
        return [effect.data for _, effect in self.did if isinstance(effect, Send)]

    def closes(self) -> list[tuple[float, str]]:
        return [(round(at, 6), effect.reason) for at, effect in self.did if isinstance(effect, Close)]


def most_in_a_second(times: list[float]) -> int:
    return max((sum(1 for other in times if at <= other < at + 1) for at in times), default=0)


def asked(messages: Iterable[bytes], method: str = "subscribe") -> list[str]:
    """Kraken's symbols, in the order asked for."""
    trees = [msgspec.json.decode(message) for message in messages]
    return [symbol for tree in trees if tree["method"] == method for symbol in tree["params"]["symbol"]]


# Pace


def test_messages_leave_at_the_venues_pace() -> None:
    world = World(books(1000), timing(messages_per_s=3)).open()
    world.take(world.session.resubscribe(books(1000), T0))
    world.until(60)
    assert most_in_a_second(world.times(Send)) == 3
    first = World(books(1000), timing(messages_per_s=3))
    first.take(first.session.start(T0))
    first.take(first.session.opened(T0))
    first.until(60)
    assert first.times(Send) == [0.0, 0.0, 0.0, *[1.0] * 3, *[2.0] * 3, *[3.0] * 3, *[4.0] * 3, *[5.0] * 3, 6.0, 6.0]
    assert asked(first.sent()) == [want.raw for want in books(1000)]


def test_a_burst_after_a_long_silence_is_still_within_the_limit() -> None:
    world = World([], timing(messages_per_s=5)).open()
    world.until(3600)
    world.take(world.session.want(books(1000), world.now))
    world.until(3700)
    times = world.times(Send)
    assert times[:6] == [3600.0] * 5 + [3601.0] and len(times) == 20
    assert most_in_a_second(times) == 5


def test_pings_count_as_messages_and_are_never_held_back() -> None:
    wants = [Want("book", f"S{i}.US", f"S{i}.US") for i in range(1000)]
    world = World(wants, timing(messages_per_s=4, ping_every_s=2, app_ping_every_s=1), "tickdb")
    world.take(world.session.start(T0))
    world.take(world.session.opened(T0))
    for second in range(1, 30):
        world.until(second)
        world.session.ponged(1000, world.now)
        world.hear()
    pings = [at for at, effect in world.did if isinstance(effect, Send) and b'"ping"' in effect.data]
    assert pings == [float(i) for i in range(1, 30)] and world.times(Ping) == [float(i) for i in range(2, 30, 2)]
    assert most_in_a_second(world.times(Send) + world.times(Ping)) <= 4
    assert len(world.sent()) - len(pings) == 20, "and everything was asked for"


def test_pings_do_not_starve_a_venue_that_allows_next_to_nothing() -> None:
    world = World(books(150), timing(messages_per_s=0.5, ping_every_s=1, pong_within_s=0))
    world.take(world.session.start(T0))
    world.take(world.session.opened(T0))
    world.until(20)
    assert world.times(Send) == [0.0, 2.0, 4.0]


def test_no_limit_sends_everything_at_once() -> None:
    world = World(books(1000), timing(messages_per_s=0))
    world.take(world.session.opened(T0))
    assert world.times(Send) == [0.0] * 20 and world.session.deadline is None


@given(st.floats(0.2, 40), st.lists(st.tuples(st.integers(0, 3 * S), st.booleans()), min_size=1, max_size=80))
def test_the_pace_is_kept_whatever_the_times(per_s: float, steps: list[tuple[int, bool]]) -> None:
    pace, now, sent, span = Pace(per_s), T0, [], round(max(1, int(per_s)) / per_s * S)
    for wait, ping in steps:
        now += wait
        if ping:
            pace.pinged(now)
        else:
            now = max(now, pace.free_at)
            pace.left(now)
            sent.append(now)
    assert all(sum(1 for other in sent if at <= other < at + span) <= max(1, int(per_s)) for at in sent)


# Restoring


def test_everything_is_restored_after_a_loss() -> None:
    world = World(books(120)).open()
    world.take(world.session.want(books(3, "trade"), T0))
    world.take(world.session.unwant(books(2), T0))
    world.session.lost("connection_lost: gone", T0 + S)
    world.until(100)
    assert world.session.state == "DIALING"
    world.did.clear()
    world.take(world.session.opened(world.now))
    world.until(110)
    expected = [want.raw for want in books(120)[2:]] + [want.raw for want in books(3)]
    assert asked(world.sent()) == expected


def test_nothing_of_the_old_connection_is_sent_on_the_new_one() -> None:
    world = World(books(500), timing(messages_per_s=1)).open()
    world.take(world.session.unwant(books(499), T0))
    world.until(2)
    world.session.lost("connection_lost: gone", world.now)
    world.until(50)
    world.did.clear()
    world.take(world.session.opened(world.now))
    world.until(100)
    assert asked(world.sent()) == ["S499/USD"] and asked(world.sent(), "unsubscribe") == []


# Wanting more and less


def test_wants_while_closed_are_asked_for_at_the_opening() -> None:
    world = World(books(2))
    assert world.session.want([Want("trade", "A/USD", "A-USD")], T0) == []
    assert world.session.unwant(books(1), T0) == []
    world.take(world.session.start(T0))
    world.take(world.session.opened(T0))
    assert asked(world.sent()) == ["S1/USD", "A/USD"]


def test_wants_while_open_are_asked_for_at_once_and_once() -> None:
    world = World(books(1)).open()
    world.take(world.session.want(books(2), T0))
    world.take(world.session.want(books(2), T0))
    assert asked(world.sent()) == ["S1/USD"]
    world.take(world.session.unwant(books(2), T0))
    world.take(world.session.unwant(books(2), T0))
    assert asked(world.sent(), "unsubscribe") == ["S0/USD", "S1/USD"]
    assert world.session.wants == [] and world.session.unacknowledged == []


def test_what_is_no_longer_wanted_is_not_resubscribed() -> None:
    world = World(books(2)).open()
    world.session.unwant(books(1), T0)
    world.did.clear()
    world.take(world.session.resubscribe(books(2), T0))
    assert asked(world.sent()) == ["S1/USD"] and asked(world.sent(), "unsubscribe") == ["S1/USD"]
    assert world.session.unacknowledged == [("book", "S1/USD")]


# Dialing


def dials(world: World, failures: int, reason: str = "dial_failed: no", **named: Any) -> list[float]:
    """Seconds between each failure and the next dial."""
    waits = []
    for _ in range(failures):
        world.session.lost(reason, world.now, **named)
        lost_at = (world.now - T0) / S
        world.did.clear()
        due = world.session.deadline
        assert due is not None
        world.until((due - T0) / S - 1e-6)
        assert world.times(Open) == []
        world.until((due - T0) / S)
        (dialed,) = world.times(Open)
        waits.append(round(dialed - lost_at, 6))
    return waits


def test_the_first_attempt_after_a_healthy_connection_comes_within_250_ms() -> None:
    waits = []
    for seed in range(300):
        world = World(books(1), timing(jitter=0.3), seed=seed).open()
        world.until(11)
        waits += dials(world, 1, "closed_by_venue: 1001")
    assert 0 <= min(waits) < 0.01 and 0.24 < max(waits) <= 0.25, "spread over all of it"


def test_backoff_doubles_up_to_the_cap() -> None:
    world = World(books(1), timing(backoff_first_s=0.5, backoff_max_s=30))
    world.session.start(T0)
    assert dials(world, 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_jitter_comes_from_the_given_random_and_never_leads_beyond_the_cap() -> None:
    rows = []
    for seed in (1, 1, 2):
        world = World(books(1), timing(jitter=0.3), seed=seed)
        world.session.start(T0)
        rows.append(dials(world, 200))
    assert rows[0] == rows[1] != rows[2]
    late = rows[0][10:] + rows[2][10:]
    assert max(late) <= 30 and min(late) >= 30 / 1.3 * 0.7 - 0.01
    assert max(late) - min(late) > 10, "a thousand clients do not come back together"


def test_a_connection_that_does_not_last_does_not_reset_the_backoff() -> None:
    world = World(books(1), timing(healthy_after_s=10))
    world.session.start(T0)
    waits = []
    for _ in range(4):
        world.session.opened(world.now)
        world.until((world.now - T0) / S + 9)
        waits += dials(world, 1)
    assert waits == [0.5, 1, 2, 4]
    world.session.opened(world.now)
    world.until((world.now - T0) / S + 10)
    assert dials(world, 1)[0] <= 0.25
    assert dials(world, 1) == [0.5]


def test_attempts_max_ends_it() -> None:
    world = World(books(1), timing(attempts_max=3))
    world.session.start(T0)
    dials(world, 2)
    world.session.lost("dial_failed: no route", world.now)
    assert world.session.state == "STOPPED" and world.session.deadline is None
    assert world.session.reason == "dial_failed: no route; given up after 3 attempts"


def test_the_reason_tells_of_the_last_failure_only() -> None:
    world = World(books(1), timing(dead_after_s=5)).open()
    world.until(5)
    world.session.lost("connection_lost: aborted", world.now)
    assert world.session.reason == "silence: nothing for 5 s; connection_lost: aborted"
    for port in range(40_000, 40_010):
        world.session.lost(f"dial_failed: refused, from port {port}", world.now)
    assert world.session.reason == "dial_failed: refused, from port 40009"


@pytest.mark.parametrize("jitter", [0.0, 0.3, 1.0, "full"])
def test_retry_after_is_obeyed(jitter: Jitter) -> None:
    for seed in range(50):
        world = World(books(1), timing(jitter=jitter), seed=seed)
        world.session.start(T0)
        (wait,) = dials(world, 1, "refused: HTTP 429", least_s=90.0)
        assert 90 <= wait <= (99 if jitter else 90)


@pytest.mark.parametrize(
    ("asked_for", "kept"), [(1e308, 86_400), (float("inf"), 86_400), (float("nan"), 0.5), (0.0, 0)]
)
def test_a_venue_cannot_ask_for_more_than_a_day(asked_for: float, kept: float) -> None:
    world = World(books(1))
    world.session.start(T0)
    assert dials(world, 1, "refused: HTTP 429", least_s=asked_for) == [kept]
    world.session.opened(world.now)
    world.session.rejected(Rejected("rate_limit", "no", retry_after_s=asked_for), world.now)
    later = world.now + 86_400 * S
    world.take(world.session.want(books(2), later))
    assert asked(world.sent()) == ["S1/USD"]


def test_a_driver_that_never_answers_is_not_waited_for_for_ever() -> None:
    world = World(books(1), timing(dial_s=5, handshake_s=10))
    world.take(world.session.start(T0))
    world.until(19.9)
    assert world.times(Open) == [0.0]
    world.until(60)
    assert world.times(Open)[:2] == [0.0, 20.5]


# Dead links, silence


def test_a_dead_link_is_found_within_ping_and_pong() -> None:
    for profile in ({"ping_every_s": 2, "pong_within_s": 2}, {"ping_every_s": 1, "pong_within_s": 1},
                    {"ping_every_s": 5, "pong_within_s": 10}):  # fmt: skip
        limit = profile["ping_every_s"] + profile["pong_within_s"]
        for tenth in range(200):
            world = World(books(1), timing(**profile)).open()
            died = tenth / 10
            for beat in range(tenth + 1):  # alive until then: some bytes each tenth of a second, and no pongs
                world.until(beat / 10)
                world.hear()
            world.until(died + limit)
            ((found, reason),) = world.closes()
            assert found - died <= limit, f"died at {died}, found at {found}"
            assert reason.startswith("dead_link")


def test_other_bytes_after_the_ping_keep_the_link() -> None:
    world = World(books(1), timing(ping_every_s=2, pong_within_s=2)).open()
    for beat in range(600):
        world.until(beat / 2 + 0.1)
        world.hear()
    assert world.closes() == [] and len(world.times(Ping)) == 149


def test_pongs_alone_keep_the_link() -> None:
    world = World(books(1), timing(ping_every_s=2, pong_within_s=2)).open()
    for beat in range(1, 100):
        world.until(2 * beat + 0.5)
        world.session.ponged(500_000_000, world.now)
    assert world.closes() == [] and world.session.watch.state.rtt_ns == 500_000_000


def test_an_application_ping_tells_round_trip_and_clock_offset() -> None:
    world = World([Want("book", "A.US", "A.US")], timing(app_ping_every_s=-1), "tickdb").open()
    world.until(1.0)
    assert world.sent() == [b'{"cmd":"ping"}']
    world.session.alive(T0 + S + 50_000_000 + 7_000_000, True, T0 + S + 100_000_000)
    assert world.session.watch.state.rtt_ns == 100_000_000
    assert world.session.watch.state.offset_ns == 7_000_000, "the venue's clock is 7 ms ahead of ours"
    world.session.alive(T0, False, T0 + 2 * S)
    world.session.alive(T0, True, T0 + 2 * S)
    assert world.session.watch.state.offset_ns == 7_000_000, "neither a heartbeat nor a second pong is an answer"


def test_silence_closes_after_dead_after_s() -> None:
    world = World(books(1), timing(dead_after_s=-1)).open()  # Kraken: 10 s
    world.until(7)
    world.hear()
    world.until(16.9)
    assert world.closes() == []
    world.until(100)
    assert world.closes()[0] == (17.0, "silence: nothing for 10 s")


@pytest.mark.parametrize("how", [timing(ping_every_s=2, pong_within_s=2), timing(dead_after_s=5)])
@pytest.mark.parametrize("alive", [True, False])
def test_a_program_that_was_held_up_reads_what_came_before_it_judges_the_link(how: Timing, alive: bool) -> None:
    """A late tick may come before the bytes that waited in the socket meanwhile."""
    world = World(books(1), how).open()
    world.until(3)
    world.now = T0 + 20 * S
    world.take(world.session.tick(world.now))
    assert world.closes() == []
    if alive:
        world.hear()
    world.until(20.5)
    assert [at for at, _ in world.closes()] == ([] if alive else [20.1])


def test_a_hang_up_is_said_once_and_given_up_if_nobody_answers() -> None:
    world = World(books(1), timing(dead_after_s=5, ping_every_s=1, pong_within_s=1, close_s=10)).open()
    world.until(11.9)
    assert len(world.closes()) == 1 and world.times(Open) == [], "no more pings, no second close, while it is hung up"
    assert world.session.want(books(2), world.now) == [], "nothing is said to a connection that is hung up"
    world.until(12.5)
    assert world.session.state == "DIALING" and world.session.reconnects == 1


def test_garbage_in_a_row_hangs_up() -> None:
    session = World(books(1)).open().session
    assert [session.undecodable(T0) for _ in range(GARBAGE_MAX - 1)] == [[]] * (GARBAGE_MAX - 1)
    session.garbage = 0  # the pump: one that could be read
    effects = [session.undecodable(T0) for _ in range(GARBAGE_MAX + 5)]
    assert [at for at, effect in enumerate(effects) if effect] == [GARBAGE_MAX - 1]
    (close,) = effects[GARBAGE_MAX - 1]
    assert isinstance(close, Close) and close.abort and close.reason.startswith("garbage: 20")
    session.lost(close.reason, T0 + S)
    assert session.deadline == T0 + S + S // 2, "backoff, not at once: the venue talks nonsense"


# Acknowledgments


def test_an_unconfirmed_subscription_is_asked_for_four_times_then_the_connection_anew() -> None:
    world = World(books(3), timing(ack_within_s=5))
    world.take(world.session.start(T0))
    world.take(world.session.opened(T0))
    world.session.accepted(Accepted((("book", "S0/USD"), ("book", "S1/USD"))))
    world.until(19.9)
    assert world.times(Send) == [0.0, 5.0, 10.0, 15.0]
    assert asked(world.sent()) == ["S0/USD", "S1/USD", *["S2/USD"] * ASKS_MAX]
    world.until(20)
    assert world.closes() == [(20.0, "unacknowledged: 1 subscriptions were asked for 4 times")]
    world.session.lost("gone", world.now)
    assert world.session.deadline is not None and world.session.deadline - world.now <= S // 4, "and at once"


@pytest.mark.parametrize("pairs", [(("book", ""),), (("", ""),), (("book", "S0/USD"), ("book", "S1/USD"))])
def test_a_confirmation_ends_the_asking(pairs: tuple[tuple[str, str], ...]) -> None:
    world = World(books(2), timing(ack_within_s=5)).open()
    world.session.accepted(Accepted((("trade", ""), ("trade", "S0/USD"))))
    assert len(world.session.unacknowledged) == 2
    world.session.accepted(Accepted(pairs))
    world.until(100)
    assert world.did == [] and world.session.unacknowledged == []


def test_data_are_as_good_as_a_confirmation() -> None:
    world = World(books(1), timing(ack_within_s=5)).open()
    world.session.flowing("book", "S0/USD")
    world.until(100)
    assert world.did == []


def test_what_still_waits_to_be_sent_is_not_asked_for_again() -> None:
    """A thousand symbols at one message a second take longer than a confirmation may."""
    world = World(books(1000), timing(messages_per_s=1, ack_within_s=5))
    world.take(world.session.start(T0))
    world.take(world.session.opened(T0))
    world.until(23.9)
    assert asked(world.sent()) == [want.raw for want in books(1000)], "each once, although the first is 23 s old"
    world.session.accepted(Accepted((("book", ""),)))
    world.until(100)
    assert len(world.sent()) == 20 and world.closes() == []


def test_new_wants_do_not_put_off_the_asking_for_old_ones() -> None:
    world = World(books(1), timing(ack_within_s=5)).open()
    for number in range(1, 8):
        world.until(number * 2)
        world.take(world.session.want(books(number + 1), world.now))
        world.session.accepted(Accepted((("book", f"S{number}/USD"),)))
    assert [at for at, effect in world.did if isinstance(effect, Send) and b'"S0/USD"' in effect.data] == [5.0, 10.0]


def test_streams_named_in_the_url_are_not_waited_for() -> None:
    """Nothing confirms them, and a quiet symbol says nothing for minutes."""
    wants = [Want("trade", "BTCUSDT", "BTC-USDT")]
    world = World(wants, timing(ack_within_s=5), "binance", url="ws://x/stream?streams=btcusdt@trade").open()
    world.until(300)
    assert world.did == [] and world.session.unacknowledged == []


@given(st.lists(st.tuples(st.sampled_from("albhcx"), st.integers(0, 4), st.integers(0, 3)), max_size=40))
def test_acks_keep_what_they_were_told(steps: list[tuple[str, int, int]]) -> None:
    acks, naive, now, within = Acks(5), dict[tuple[str, str], list[int]](), 1000, 5
    for kind, key, wait in steps:
        now += wait
        pair = ("book", f"S{key}")
        if kind == "a":
            acks.asked([pair])
            naive[pair] = [naive.get(pair, [0])[0] + 1, 0]
        elif kind == "l":
            acks.left(now)
            naive = {p: [times, by or now + within] for p, (times, by) in naive.items()}
        elif kind == "b":
            assert acks.late(now) == {p: times for p, (times, by) in naive.items() if by and by <= now}
            naive = {p: [times, 0 if by <= now else by] for p, (times, by) in naive.items()}
        elif kind == "h":
            acks.hold(now + 9)
            naive = {p: [times, by and max(by, now + 14)] for p, (times, by) in naive.items()}
        elif kind == "c":
            acks.confirmed(*pair)
            naive.pop(pair, None)
        else:
            again = Acks(5)
            again.load(acks.save())
            acks = again
        assert {p: list(kept) for p, kept in acks.pairs.items()} == naive
        first = min((by for _, by in naive.values() if by), default=0)
        assert not first or 0 < acks.deadline <= first, "never later than the first that is due"


# Refusals


def test_a_refused_symbol_is_dropped_and_the_rest_kept() -> None:
    world = World(books(3), timing(ack_within_s=5)).open()
    world.take(world.session.rejected(Rejected("unknown_symbol", "no", pairs=(("book", "S1/USD"),)), T0))
    assert [want.raw for want in world.session.wants] == ["S0/USD", "S2/USD"]
    assert world.session.unacknowledged == [("book", "S0/USD"), ("book", "S2/USD")]
    world.session.lost("gone", world.now)
    world.take(world.session.opened(world.now))
    assert asked(world.sent()) == ["S0/USD", "S2/USD"] and world.session.state == "OPEN"


def test_a_wrong_key_stops_for_good_and_says_why() -> None:
    world = World(books(3), timing(ping_every_s=2, ack_within_s=5)).open()
    world.take(world.session.rejected(Rejected("bad_key", "invalid api key", 1001), T0))
    assert world.closes() == [(0.0, "bad_key: invalid api key")]
    world.session.lost("closed_by_venue: 1000", T0 + S)
    assert world.session.state == "STOPPED"
    assert world.session.reason == "bad_key: invalid api key; closed_by_venue: 1000"
    world.until(100_000)
    assert world.times(Open) == [] and len(world.did) == 1 and world.session.deadline is None


def test_a_session_stopped_while_dialing_stays_stopped() -> None:
    world = World(books(1))
    world.session.start(T0)
    assert world.session.stop("stopped: by an operator") == [Close("c-1", "stopped: by an operator")]
    assert world.session.opened(T0 + S) == [Close("c-1", "stopped: by an operator")]
    assert world.session.state == "STOPPED"


def test_a_rate_limit_holds_everything_back_for_the_venues_time() -> None:
    world = World(books(100), timing(ack_within_s=5)).open()
    world.take(world.session.rejected(Rejected("rate_limit", "slow down", retry_after_s=30), T0))
    world.take(world.session.want(books(1, "trade"), T0))
    assert world.sent() == []
    world.until(29.99)
    assert world.sent() == []
    world.until(39)
    sent = [(at, asked([effect.data])) for at, effect in world.did if isinstance(effect, Send)]
    assert sent[0] == (30.0, ["S0/USD"]), "the new want"
    assert [at for at, _ in sent[1:]] == [35.0] * 3, "and then, still unconfirmed, what was refused"


def test_a_wait_outlives_the_connection() -> None:
    world = World(books(1)).open()
    world.session.rejected(Rejected("rate_limit", "slow down", retry_after_s=60), T0)
    world.session.lost("gone", T0 + S)
    world.until(2)
    world.did.clear()
    world.take(world.session.opened(world.now))
    world.until(59.9)
    assert world.sent() == []
    world.until(60)
    assert asked(world.sent()) == ["S0/USD"]


# Checkpoint


def test_a_saved_session_goes_on_as_the_one_that_was_saved() -> None:
    how = Timing(ping_every_s=2, pong_within_s=2, ack_within_s=5, messages_per_s=2, jitter=0.3)
    one = World(books(300), how, seed=9)
    one.take(one.session.start(T0))
    one.take(one.session.lost("dial_failed: no", T0) or [])
    one.until(2)
    one.take(one.session.opened(one.now))
    one.until(3.5)
    state = msgspec.msgpack.encode(one.session.save())
    two = World([], how, seed=9)
    two.session.load(msgspec.msgpack.decode(state, type=SessionState))
    two.now = one.now
    one.did.clear()
    for world in (one, two):
        world.until(40)
        world.session.lost("gone", world.now)
        world.until(60)
        world.take(world.session.opened(world.now))
        world.until(90)
    strip = [[(at, type(e), asked([e.data]) if isinstance(e, Send) else e) for at, e in w.did] for w in (one, two)]
    assert strip[0] == strip[1] and len(strip[0]) > 12
    assert one.session.save() == two.session.save()


# Timers

SCRIPTS = st.fixed_dictionaries(
    {
        "how": st.builds(
            Timing,
            ping_every_s=st.sampled_from([0, 0.5, 2, 5]),
            pong_within_s=st.sampled_from([0, 0.5, 2, 10]),
            app_ping_every_s=st.sampled_from([0, 1, 7]),
            dead_after_s=st.sampled_from([0, 3, 10]),
            ack_within_s=st.sampled_from([0, 1, 5]),
            backoff_first_s=st.sampled_from([0.0, 0.5]),
            attempts_max=st.sampled_from([0, 3]),
            messages_per_s=st.sampled_from([0, 0.3, 1, 3, 10]),
        ),
        "wants": st.integers(0, 400),
        "seed": st.integers(0, 1 << 30),
        "bytes_every": st.sampled_from([0.05, 0.3, 1, 4, 20]),
        "dies": st.floats(0, 1),
    }
)


def weather(script: dict[str, Any]) -> Callable[[World], list[tuple[int, Callable[[], None]]]]:
    """What the world does to a session, and when: an answer to each effect, and things that happen by themselves."""
    random = Random(script["seed"])

    def after(low: float, high: float) -> int:
        return round(random.uniform(low, high) * S)

    def answers(world: World) -> list[tuple[int, Callable[[], None]]]:
        session, due = world.session, []

        def refused(retry_after_s: float) -> None:
            session.lost("refused: no", world.now, least_s=retry_after_s)

        for _, effect in world.did:
            chance = random.random()
            if isinstance(effect, Open) and chance < 0.6:
                due.append((after(0, 2), lambda: session.state == "DIALING" and world.take(session.opened(world.now))))
            elif isinstance(effect, Open) and chance < 0.9:
                retry = random.choice([-1.0, -1.0, 0.0, 20.0])
                due.append((after(0, 10), partial(refused, retry)))
            elif isinstance(effect, Close) and chance < 0.8:
                due.append((after(0, 3), lambda: session.state != "WAITING" and session.lost("gone", world.now)))
            elif isinstance(effect, Ping) and chance < 0.8:
                due.append((after(0, 1), lambda: session.ponged(1, world.now)))
            elif isinstance(effect, Send) and chance < 0.1:
                due.append((after(0, 1), lambda: world.take(session.rejected(Rejected("rate_limit", "no"), world.now))))
            elif isinstance(effect, Send) and chance < 0.7:
                due.append((after(0, 3), lambda: session.accepted(Accepted(tuple(session.unacknowledged[:60])))))
        world.did.clear()
        return due

    return answers


@settings(max_examples=30, deadline=None)
@given(SCRIPTS)
def test_deadlines_miss_nothing_and_never_storm(script: dict[str, Any]) -> None:
    """Driven by `deadline` alone: a tick in between does nothing, each due one puts the next off, and there are few of them."""
    world = World(books(script["wants"]), script["how"])
    answers, session, random = weather(script), world.session, Random(script["seed"] + 1)
    heap: list[tuple[int, int, Callable[[], None]]] = []
    ticks = number = 0
    world.take(session.start(T0))
    end, next_bytes = T0 + 60 * S, T0
    mute = T0 + round(script["dies"] * 60 * S)
    while True:
        for wait, act in answers(world):
            number += 1
            heappush(heap, (world.now + wait, number, act))
        due = session.deadline
        at = min([t for t in (due, heap[0][0] if heap else None, next_bytes) if t is not None])
        if at > end:
            break
        between = world.now + round(random.random() * (at - world.now))
        if due is None or between < due:
            assert session.tick(between) == [] and session.deadline == due, "nothing is due before the deadline"
        world.now = max(at, world.now)
        if due is not None and due <= world.now:
            ticks += 1
            world.take(session.tick(world.now))
            after = session.deadline
            assert after is None or after > world.now or script["how"].backoff_first_s == 0
        elif heap and heap[0][0] <= world.now:
            heappop(heap)[2]()
        else:
            next_bytes = world.now + round(script["bytes_every"] * S)
            if session.state == "OPEN" and world.now < mute:
                world.hear()
    assert ticks <= 60 * 20, f"{ticks} ticks in 60 s"
