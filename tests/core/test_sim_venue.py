"""The simulated venue without a socket: what each input leads to, on a literal clock."""

import json
from collections.abc import Sequence

import pytest

from truetape.app.dialects import Names, dialect
from truetape.app.sim import counterpart
from truetape.core.feed.venue import Rejected
from truetape.core.sim.faults import parse
from truetape.core.sim.listing import listings
from truetape.core.sim.market import Market
from truetape.core.sim.venue import Act, Beat, Cut, Freeze, Hang, Say, Venue

T0 = 1_780_000_000_000_000_000
SECOND = 1_000_000_000
BOOK = b'{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USDT","ETH/USDT"]}}'


def venue(name: str = "kraken", rate: float = 1000, *faults: str, seed: int = 3) -> Venue:
    kind = counterpart(name)
    market = Market(listings(2, seed, kind.size_decimals), dialect(name).native, seed, T0, history=True)
    return Venue(kind, market, T0, rate=rate, faults=parse(faults), seed=seed, watch=True)


def ticks(sim: Venue, seconds: float, start: float = 0.0) -> list[Act]:
    """Turns every 2 ms, from `start` on."""
    first = T0 + round(start * SECOND)
    return [act for n in range(round(seconds * 500)) for act in sim.tick(first + n * SECOND // 500)]


def said(acts: Sequence[Act], client: int) -> list[bytes]:
    return [frame for act in acts if isinstance(act, Say) and act.client == client for frame in act.frames]


def test_each_client_is_told_what_it_asked_for() -> None:
    sim = venue()
    assert said(sim.opened(1, "/v2", T0), 1)
    sim.opened(2, "/v2", T0)
    answers = said(sim.received(1, BOOK, T0), 1)
    assert sum(b'"snapshot","data"' in frame for frame in answers) == 2
    acts = ticks(sim, 1)
    assert said(acts, 1)
    assert all(frame == b'{"channel":"heartbeat"}' for frame in said(acts, 2))
    assert 900 < sim.counts.messages <= 1000
    sim.gone(1, T0)
    assert not said(ticks(sim, 1, 1), 1)
    assert sim.received(1, BOOK, T0) == []


def test_same_seed_and_inputs_same_words() -> None:
    runs = []
    for _ in range(2):
        sim = venue("binance", 500, "drop-delta~0.1", "close-1006@0.7s")
        acts = sim.opened(1, "/stream?streams=btcusdt@depth/ethusdt@trade", T0)
        runs.append(acts + ticks(sim, 1))
    assert runs[0] == runs[1] and said(runs[0], 1)


def test_what_was_missed_beyond_a_quarter_of_a_second_is_skipped_and_counted() -> None:
    sim = venue(rate=100)
    sim.tick(T0 + 10 * SECOND)
    assert sim.counts.late > 900 and sim.counts.messages <= 30


@pytest.mark.parametrize(
    ("fault", "acts"),
    [
        ("close-1006", [Cut(1), Cut(2)]),
        ("close-1011", [Hang(1, 1011), Hang(2, 1011)]),
        ("half-open", [Freeze(1, True), Freeze(2, True)]),
    ],
)
def test_faults_of_connections_concern_each(fault: str, acts: list[Act]) -> None:
    sim = venue("kraken", 0, f"{fault}@1s")
    for client in (1, 2):
        sim.opened(client, "/v2", T0)
    assert ticks(sim, 1) == []
    assert sim.tick(T0 + SECOND) == acts


def test_a_frozen_client_is_told_nothing_until_it_thaws() -> None:
    sim = venue("kraken", 1000, "half-open@1s=2")
    sim.opened(1, "/v2", T0)
    sim.received(1, BOOK, T0)
    ticks(sim, 1)
    assert ticks(sim, 2, 1) == [Freeze(1, True)]
    assert sim.received(1, BOOK, T0 + 2 * SECOND) == []
    acts = sim.tick(T0 + 3 * SECOND)
    assert acts[0] == Freeze(1, False) and said(acts, 1)


def test_a_venue_that_pings_does() -> None:
    sim = venue("binance", 0)
    sim.opened(1, "/ws", T0)
    assert [act for act in ticks(sim, 21) if isinstance(act, Beat)] == [Beat(1), Beat(1)]


def test_http_is_the_market_as_it_was_told() -> None:
    sim = venue("binance")
    sim.opened(1, "/ws/btcusdt@depth", T0)
    last = json.loads(said(ticks(sim, 1), 1)[-1])["u"]
    body = json.loads(sim.http("/api/v3/depth", {"symbol": "BTCUSDT"}, T0 + SECOND).body)
    assert body["lastUpdateId"] == last


# Faults that last


def stream(name: str, fault: str, rate: float = 1000) -> tuple[Venue, list[bytes]]:
    """A venue whose first client subscribed at once, and what it was answered."""
    sim = venue(name, rate, fault)
    sim.tick(T0)
    answers = said(sim.opened(1, {"kraken": "/v2", "binance": "/ws", "tickdb": "/v1/realtime"}[name], T0), 1)
    return sim, answers + said(sim.received(1, ASKS[name], T0), 1)


ASKS = {
    "kraken": BOOK,
    "binance": b'{"method":"SUBSCRIBE","params":["btcusdt@depth","ethusdt@depth"],"id":1}',
    "tickdb": b'{"cmd":"subscribe","data":{"channel":"depth","symbols":["BTCUSDT","ETHUSDT"]}}',
}
SAYS = {"kraken": b'"data":[{"symbol"', "binance": b"depthUpdate", "tickdb": b'"cmd":"depth"'}
ACKS = {"kraken": b'"success":true', "binance": b'"result":null', "tickdb": b'"code":0'}


@pytest.mark.parametrize("name", list(ASKS))
def test_mute_after_ack_acknowledges_and_is_silent_until_asked_anew(name: str) -> None:
    sim, answers = stream(name, "mute-after-ack@0s=2")
    assert any(ACKS[name] in frame for frame in answers)
    assert not any(SAYS[name] in frame for frame in answers + said(ticks(sim, 3), 1))
    sim.received(1, ASKS[name], T0 + 3 * SECOND)
    assert any(SAYS[name] in frame for frame in said(ticks(sim, 1, 3), 1))


@pytest.mark.parametrize("name", list(ASKS))
def test_a_muted_symbol_has_no_first_snapshot_either(name: str) -> None:
    sim, answers = stream(name, "mute-symbol@0s:BTC-USDT=2")
    raw = {"kraken": b"BTC/USDT", "binance": b"BTCUSDT", "tickdb": b"BTCUSDT"}[name]
    heard = [frame for frame in answers + said(ticks(sim, 1.9), 1) if SAYS[name] in frame]
    assert heard and not any(raw in frame for frame in heard)
    assert any(raw in frame for frame in said(ticks(sim, 1, 2), 1) if SAYS[name] in frame)


@pytest.mark.parametrize("name", list(ASKS))
def test_never_ack_swallows_requests_and_answers_pings(name: str) -> None:
    sim, answers = stream(name, "never-ack@0s=2")
    assert not any(ACKS[name] in frame or SAYS[name] in frame for frame in answers)
    pings = {"kraken": b'{"method":"ping"}', "tickdb": b'{"cmd":"ping"}', "binance": b'{"method":"LIST_SUBSCRIPTIONS"}'}
    assert said(sim.received(1, pings[name], T0), 1)
    ticks(sim, 3)
    assert any(ACKS[name] in frame for frame in said(sim.received(1, ASKS[name], T0 + 3 * SECOND), 1))


@pytest.mark.parametrize("name", list(ASKS))
def test_a_venue_that_is_asked_too_much_says_so_in_words_that_its_dialect_knows(name: str) -> None:
    sim, answers = stream(name, "rate-3001@0s=2")
    words = dialect(name)("x", Names(dialect(name), ""), "")
    (limited,) = [item for frame in answers[-1:] for item in words.decode(frame, T0)]
    assert isinstance(limited, Rejected) and limited.reason == "rate_limit"
    ticks(sim, 3)
    assert any(ACKS[name] in frame for frame in said(sim.received(1, ASKS[name], T0 + 3 * SECOND), 1))


def test_lifetimes_end_and_binance_says_so_before() -> None:
    for name in ASKS:
        sim, _ = stream(name, "lifetime-cut@0s=3")
        acts = ticks(sim, 3.2)
        assert acts[-1] == Hang(1, 1001, "lifetime") or Hang(1, 1001, "lifetime") in acts
        assert any(b"serverShutdown" in frame for frame in said(acts, 1)) == (name == "binance")


@pytest.mark.parametrize("name", list(ASKS))
def test_a_burst_is_a_hundred_times_the_rate_for_its_time(name: str) -> None:
    sim, _ = stream(name, "burst-100x@1s=0.5", 100)
    ticks(sim, 1)
    before = sim.counts.messages
    ticks(sim, 0.5, 1)
    assert 4_000 < sim.counts.messages + sim.counts.late - before < 6_000
    during = sim.counts.messages
    ticks(sim, 1, 1.5)
    assert 80 <= sim.counts.messages - during < 300


def test_the_venues_clock_jumps_and_ours_does_not() -> None:
    sim, _ = stream("tickdb", "clock-jump@1s=-3600")
    times = [json.loads(frame)["data"]["timestamp"] for frame in said(ticks(sim, 2), 1) if SAYS["tickdb"] in frame]
    assert max(times) - min(times) > 3_598_000 and times[0] > times[-1]


def test_numbers_begin_anew() -> None:
    sim, _ = stream("binance", "seq-reset@1s:BTC-USDT")
    rows = [json.loads(frame) for frame in said(ticks(sim, 2), 1) if SAYS["binance"] in frame]
    assert min(row["U"] for row in rows if row["s"] == "BTCUSDT") == 1
    assert min(row["U"] for row in rows if row["s"] == "ETHUSDT") > 1_000_000


@pytest.mark.parametrize(
    "fault", ["mute-symbol@0.5s=1", "drop-delta@0.5s=7", "half-open@0.5s=1", "mute-after-ack@0s=1"]
)
def test_who_watches_knows_every_change_that_was_not_told(fault: str) -> None:
    sim, answers = stream("binance", fault)
    told = {(row["s"], row["u"]) for frame in answers + said(ticks(sim, 2), 1) if "u" in (row := json.loads(frame))}
    assert sim.missed
    made = {(raw, change.seq) for raw, history in sim.market.history().items() for change in history}
    assert made - told == {(row.raw, row.seq) for row in sim.missed}
