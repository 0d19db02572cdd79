"""A pump that was saved and loaded goes on exactly as the one that was saved: the promise behind retention.

A seeded world of four venues is talked to by a real pump: three simulated by their counterparts, one by hand. Frames are lost, doubled,
garbled and refused, connections break, fetches fail, symbols and whole feeds come and go. What the pump was fed is kept as
records; at a random record it is saved, and a fresh pump that loads what was saved is fed the rest beside it.
"""

import re
from collections.abc import Callable
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import transcript
from truetape.app.dialects import Names, dialect, known
from truetape.app.header import decode_feed, encode_feed
from truetape.app.replay import feed_record
from truetape.app.sim import counterpart
from truetape.core.feed.counterpart import Counterpart, Subscribed, Unsubscribed
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route import checkpoint
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.orders import Order
from truetape.core.route.pump import Pump
from truetape.core.route.roster import Dropped, Fed
from truetape.core.route.router import Router
from truetape.core.sim.listing import listings
from truetape.core.sim.market import Market
from truetape.model import record
from truetape.model.effect import Close, Effect, Fetch, Open, Ping, Send
from truetape.model.event import Gap, Quote, Status, Trade
from truetape.model.event import Market as Event

S = 1_000_000_000
T0 = 1_780_000_000 * S
TRANSCRIPTS = Path(transcript.__file__).parent / "transcripts"
TIME = "2026-05-29T00:00:00Z"
SECONDS = 40
_TOP = re.compile(rb'("bids":\[)\["([0-9.]+)",')
TIMING = Timing(ping_every_s=1, pong_within_s=1, dead_after_s=6, ack_within_s=1, healthy_after_s=3, messages_per_s=4)
URLS = {"kraken": "ws://sim/v2", "binance": "ws://sim/stream", "tickdb": "ws://sim/v1/realtime", "coinbase": "ws://sim"}


def feeds() -> list[Feed]:
    """Four feeds; Kraken's on two connections."""
    made = []
    for venue in ("kraken", "binance", "tickdb", "coinbase"):
        kind, url = dialect(venue), URLS[venue]
        names = Names(kind, url)
        channels = ("book", "trade") if venue == "coinbase" else ("book", "trade", "quote")
        rows = tuple(Want(c, kind.native(s), s, 10) for s in ("BTC-USDT", "ETH-USDT", "SOL-USDT") for c in channels)
        per = 2 if venue == "kraken" else 0
        made.append(Feed(venue, venue, venue, kind, url, "http://sim", rows, names, TIMING, False, per))
    return made


def fresh() -> tuple[Pump, Mailbox]:
    """A pump, and a consumer of its trades, quotes, gaps and statuses. (One of books would want a whole book first; the digest has them.)"""
    router, box = Router(), Mailbox("all", drop_oldest, 1_000_000)
    router.subscribe(box, [(kind, "*", "*") for kind in ("trade", "quote")])
    pump = Pump(feeds(), router=router, seed=5, now=T0, feed_of=decode_feed)
    return pump, box


def apply(pump: Pump, item: record.Record) -> list[Effect]:
    """As `app.replay.feed_record`, with the effects."""
    match item:
        case record.Frame():
            return pump.frame(item.source, item.data, item.now)
        case record.Tick():
            return pump.tick(item.now)
        case record.Fetched():
            return pump.fetched(item.source, item.ref, item.status, item.body, item.now)
        case record.Opened():
            return pump.opened(item.source, item.now)
        case record.Lost():
            return pump.lost(item.source, item.reason, item.now, item.code, item.retry_after_s)
        case record.Sampled():
            return pump.sampled(item.source, item.name, item.value, item.now)
        case record.Command():
            return pump.command(item.body, item.now)
        case record.Hole():
            return pump.hole(item.now, item.why)
    return []


class Coinbase:
    """Just enough of Coinbase: one counter over all frames, snapshots and changes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.counter = -1
        self.told: list[str] = []

    def frame(self, channel: str, event: dict[str, object]) -> bytes:
        self.counter += 1
        tree = {
            "channel": channel,
            "timestamp": "2026-05-29T00:00:00Z",
            "sequence_num": self.counter,
            "events": [event],
        }
        return msgspec.json.encode(tree)

    def levels(self, kind: str, raw: str) -> bytes:
        rows = [
            {
                "side": side,
                "price_level": f"{price}",
                "new_quantity": f"{self.random.randrange(4) + (kind == 'snapshot')}",
            }
            for side, price in [("bid", 100 - self.random.randrange(5)), ("offer", 101 + self.random.randrange(5))]
        ]
        return self.frame("l2_data", {"type": kind, "product_id": raw, "updates": rows})

    def received(self, data: bytes) -> list[bytes]:
        tree = msgspec.json.decode(data)
        if tree["channel"] != "level2":
            return []
        self.told = [raw for raw in self.told if raw not in tree["product_ids"]]
        if tree["type"] == "unsubscribe":
            return []
        self.told += tree["product_ids"]
        return [self.levels("snapshot", raw) for raw in tree["product_ids"]]

    def step(self) -> list[bytes]:
        if not self.told:
            return []
        raw = self.random.choice(self.told)
        row = {"trade_id": "1", "product_id": raw, "price": "100", "size": "1", "time": TIME, "side": "BUY"}
        return [self.levels("update", raw), self.frame("market_trades", {"type": "update", "trades": [row]})]


class World:
    """Venues, wires and mishaps around one pump, by seed; `records` is what the pump was fed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"{seed}:world")
        self.pump, self.box = fresh()
        self.records: list[record.Record] = []
        self.now = T0
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.number = 0
        self.peers: dict[str, Any] = {}
        self.told: dict[str, dict[str, None]] = {}
        self.muted: dict[str, int] = {}
        self.markets: dict[str, Market] = {}
        self.lives: dict[str, int] = {}  # of each name of a connection: what was ended for good is not heard of again
        for venue in ("kraken", "binance", "tickdb"):
            rows = listings(3, seed, counterpart(venue).size_decimals)
            self.markets[venue] = Market(rows, dialect(venue).native, seed, T0)

    def feed(self, item: record.Record) -> None:
        self.records.append(item)
        self.obey(apply(self.pump, item))

    def after(self, low: float, high: float, source: str, act: Callable[[], None]) -> None:
        self.number += 1
        life = self.lives.get(source, 0)
        alive = lambda: self.lives.get(source, 0) == life and act()  # noqa: E731
        heappush(self.heap, (self.now + round(self.random.uniform(low, high) * S), self.number, alive))  # type: ignore[arg-type]

    def forget(self, source: str) -> None:
        self.lives[source] = self.lives.get(source, 0) + 1
        for kept in (self.peers, self.told, self.muted):
            kept.pop(source, None)  # type: ignore[attr-defined]

    def obey(self, effects: list[Effect]) -> None:
        for effect in effects:
            chance, source = self.random.random(), effect.source
            match effect:
                case Open() if chance < 0.75:
                    self.after(0.01, 0.5, source, lambda source=source: self.connect(source))  # type: ignore[misc]
                case Open():
                    retry = self.random.choice([-1.0, 2.0])
                    lost = lambda s=source, r=retry: self.feed(record.Lost(s, self.now, "refused: HTTP 429", 429, r))  # noqa: E731
                    self.after(0.01, 1, source, lost)
                case Close() if effect.final:
                    self.forget(source)
                case Close():
                    self.after(0, 0.2, source, lambda source=source, why=effect.reason: self.lose(source, why))  # type: ignore[misc]
                case Ping() if chance < 0.97:
                    pong = lambda s=source: s in self.peers and self.feed(record.Sampled(s, self.now, "pong", 1e6))  # noqa: E731
                    self.after(0, 0.05, source, pong)  # type: ignore[arg-type]
                case Send():
                    self.after(0.001, 0.05, source, lambda s=source, data=effect.data: self.receive(s, data))  # type: ignore[misc]
                case Fetch():
                    self.after(0.05, 0.5, source, lambda effect=effect: self.fetch(effect))  # type: ignore[misc]

    def venue(self, source: str) -> str:
        return source.partition("-")[0]

    def connect(self, source: str) -> None:
        venue = self.venue(source)
        self.feed(record.Opened(source, self.now, URLS[venue]))
        if venue == "coinbase":
            self.peers[source] = Coinbase(self.random)
            return
        peer: Counterpart = counterpart(venue)(self.markets[venue].listed)
        self.peers[source] = peer
        self.told[source] = {}
        self.answer(source, peer.opened(URLS[venue].removeprefix("ws://sim"), self.now))

    def lose(self, source: str, why: str) -> None:
        if self.peers.pop(source, None) is not None:
            self.feed(record.Lost(source, self.now, why, 1006))

    def receive(self, source: str, data: bytes) -> None:
        peer, chance = self.peers.get(source), self.random.random()
        if peer is None or chance < 0.05:
            return
        if isinstance(peer, Coinbase):
            for frame in peer.received(data):
                self.frame(source, frame)
        elif chance < 0.08:
            self.frame(source, b'{"error":"rate exceeded","success":false,"method":"subscribe","req_id":1}')
        else:
            self.answer(source, peer.received(data, self.now))

    def answer(self, source: str, answers: list[Any]) -> None:
        for answer in answers:
            if isinstance(answer, bytes):
                self.frame(source, answer)
            elif isinstance(answer, Subscribed):
                self.told[source][answer.raw] = None
            elif isinstance(answer, Unsubscribed):
                self.told[source].pop(answer.raw, None)

    def frame(self, source: str, data: bytes) -> None:
        """What a wire does to a frame."""
        chance = self.random.random()
        if self.muted.get(source, 0) > self.now or chance < 0.01 or source not in self.peers:
            return
        if chance < 0.015:
            data = data[: len(data) // 2]
        elif chance < 0.02:
            data = data.replace(b'"checksum":', b'"checksum":1')
        elif chance < 0.03:
            data = _TOP.sub(rb'\1["\2","9"],["\2",', data)  # one price twice, as levels of two sizes
        elif chance < 0.035:
            data = data.replace(b'"price":', b'"price":"x","y":')
        for _ in range(1 + (0.04 < chance < 0.045)):
            self.feed(record.Frame(source, self.now, data))

    def fetch(self, effect: Fetch) -> None:
        path, _, query = effect.url.removeprefix("http://sim").partition("?")
        reply = counterpart("binance").http(self.markets["binance"].listed, path, dict(parse_qsl(query)), self.now)
        status = reply.status if self.random.random() < 0.8 else 503
        self.feed(record.Fetched(effect.source, self.now, effect.ref, status, reply.body if status == 200 else b"no"))

    def step(self) -> None:
        for venue, market in self.markets.items():
            change = market.step(self.now)
            for source, peer in list(self.peers.items()):
                if self.venue(source) == venue and change.raw in self.told[source]:
                    for _, data in peer.encode(change, self.now):
                        self.frame(source, data)
        for source, peer in list(self.peers.items()):
            if isinstance(peer, Coinbase):
                for data in peer.step():
                    self.frame(source, data)
            else:
                for _, (_, data) in peer.tick(self.now):
                    self.frame(source, data)

    def reload(self) -> None:
        """A feed goes, comes back, or is made anew with fewer symbols and another depth."""
        feed = self.random.choice(feeds())
        gone = [one for one in feeds() if one.name not in self.pump.orders.feeds]
        body = msgspec.json.encode(Dropped(feed.name))
        if gone or self.random.random() < 0.5:
            feed = self.random.choice(gone or [feed])
            wants = tuple(replace(want, depth=25) for want in feed.wants[: self.random.choice([4, 9])])
            per, lines, lifetime_s = (self.random.choice(two) for two in ([0, 1], [1, 2], [-1, 9]))  # some roll over
            timing = replace(feed.timing, lifetime_s=lifetime_s)
            fewer = replace(feed, wants=wants, per_connection=per, lines=lines, timing=timing)
            body = msgspec.json.encode(Fed(msgspec.Raw(encode_feed(fewer)), "the configuration changed: depth"))
        self.feed(record.Command("", self.now, body))

    def mishap(self) -> None:
        """Something that nobody asked for."""
        if self.random.random() < 0.15:
            self.reload()
            return
        source = self.random.choice(list(self.pump.links))
        venue, chance = self.venue(source), self.random.random()
        kind = dialect(venue)
        symbol = self.random.choice(["BTC-USDT", "ETH-USDT", "LTC-USDT", "NO-PE"])
        if chance < 0.2:
            self.lose(source, "connection_lost: the wire broke")
        elif chance < 0.4:
            self.muted[source] = self.now + round(self.random.uniform(0.5, 8) * S)
        elif chance < 0.45:
            self.feed(record.Hole("journal", self.now, "overflow", 7))
        elif chance < 0.5:
            self.feed(record.Command("", self.now, b'{"do":"nonsense"}'))
        else:
            do = "want" if chance < 0.8 else "unwant"
            channel = self.random.choice(["book", "trade"])
            want = Want(channel, kind.native(symbol), symbol + "-ALIAS" * (chance < 0.6), self.random.choice([10, 25]))
            order = Order(do, source, [want])  # type: ignore[arg-type]
            if symbol == "LTC-USDT" and do == "want":  # on a connection of its own
                order = Order("open", f"{venue}-9", [want], venue)
            self.feed(record.Command("", self.now, msgspec.json.encode(order)))

    def run(self) -> list[record.Record]:
        self.obey(self.pump.start(T0))
        next_step, next_mishap = T0, T0 + S
        while self.now < T0 + SECONDS * S:
            due = self.pump.deadline
            tick = max(self.now + 10_000_000, due) if due is not None else 1 << 62
            at, what = min((tick, 0), (self.heap[0][0] if self.heap else 1 << 62, 1), (next_step, 2), (next_mishap, 3))
            self.now = max(self.now, at)
            if what == 0:
                self.feed(record.Tick("", self.now))
            elif what == 1:
                heappop(self.heap)[2]()
            elif what == 2:
                next_step = self.now + S // 25
                self.step()
            else:
                next_mishap = self.now + round(self.random.uniform(0.2, 3) * S)
                self.mishap()
        return self.records


@cache
def recorded(seed: int) -> list[record.Record]:
    return World(seed).run()


def told(pump: Pump, box: Mailbox, now: int) -> list[Any]:
    pump.router.flush(now)
    return box.take(1_000_000, now)


def books(pump: Pump) -> dict[str, Any]:
    return {
        f"{source}:{stream.channel}:{stream.raw}": (
            stream.symbol, stream.state, stream.reason, stream.evidence, stream.since, stream.threshold,
            (stream.sync.book.bids(), stream.sync.book.asks(), stream.sync.state, stream.sync.seq) if stream.sync else None,
        )
        for source, link in pump.links.items() for stream in link.streams.values()
    }  # fmt: skip


def halves(seed: int, cut: int) -> tuple[Pump, Mailbox, Pump, Mailbox]:
    """A pump fed up to the cut, and a fresh one that loaded what the first one saved."""
    one, one_box = fresh()
    one.start(T0)
    for item in recorded(seed)[:cut]:
        apply(one, item)
    told(one, one_box, T0)
    two, two_box = fresh()
    two.start(T0 + 12345)
    checkpoint.load(two, checkpoint.save(one))
    one.judge.gaps.clear()
    return one, one_box, two, two_box


def test_the_world_is_rich_enough_to_prove_something() -> None:
    pump, box = fresh()
    pump.start(T0)
    for item in recorded(1):
        apply(pump, item)
    events = told(pump, box, T0 + SECONDS * S)
    kinds = {type(item) for item in recorded(1)}
    assert kinds >= {
        record.Frame,
        record.Opened,
        record.Lost,
        record.Tick,
        record.Fetched,
        record.Command,
        record.Sampled,
    }
    assert {type(event) for event in events} >= {Trade, Quote, Gap, Status}
    states = {event.state for event in events if isinstance(event, Status)}
    assert states >= {"LIVE", "GAP", "RESYNC", "SYNCING", "CLOSED"}
    assert len(recorded(1)) > 2000
    assert sum(isinstance(item, record.Tick) for item in recorded(1)) < 20 * SECONDS, "timers do not storm"


@settings(max_examples=4, deadline=None)
@given(st.integers(1, 4), st.floats(0, 1))
def test_a_loaded_pump_goes_on_as_the_saved_one(seed: int, share: float) -> None:
    """Record by record: the same effects, the same events and statuses; at the end the same of everything."""
    goes_on(seed, share)


@pytest.mark.soak
@settings(max_examples=400, deadline=None)
@given(st.integers(1, 80), st.floats(0, 1))
def test_loaded_pumps_go_on_as_the_saved_ones_whatever_the_world(seed: int, share: float) -> None:
    goes_on(seed, share)
    nothing_left_out(seed, share)


def state(pump: Pump) -> checkpoint.PumpState:
    """All that is saved, but for what each line of two was good for: what that is made from is not."""
    saved = msgspec.msgpack.decode(checkpoint.save(pump), type=checkpoint.PumpState)
    for pair in saved.pairs:
        pair.tally = []
    return saved


def goes_on(seed: int, share: float) -> None:
    records = recorded(seed)
    cut = round(share * len(records))
    one, one_box, two, two_box = halves(seed, cut)
    for number, item in enumerate(records[cut:], cut):
        assert apply(one, item) == apply(two, item), f"seed {seed}, cut {cut}, record {number}: {item}"
        if number % 16 == 0:
            where = f"seed {seed}, cut {cut}, record {number}"
            assert told(one, one_box, item.now) == told(two, two_box, item.now), where
            assert one.digest.chunk == two.digest.chunk, where
        assert one.deadline == two.deadline, f"seed {seed}, cut {cut}, record {number}"
    assert told(one, one_box, T0 + SECONDS * S) == told(two, two_box, T0 + SECONDS * S)
    assert one.digest.value() == two.digest.value() and one.digest.counts() == two.digest.counts()
    assert one.gaps == two.gaps and books(one) == books(two)
    assert state(one) == state(two)


@pytest.mark.parametrize("seed", [1, 2])
def test_saving_changes_nothing(seed: int) -> None:
    """A pump that is saved often gives the digest of one that never is."""
    one, _ = fresh()
    two, _ = fresh()
    for pump in (one, two):
        pump.start(T0)
    for number, item in enumerate(recorded(seed)[:2000]):
        apply(one, item)
        apply(two, item)
        if number % 50 == 0:
            checkpoint.save(two)
    assert one.digest.value() == two.digest.value() and checkpoint.save(one) == checkpoint.save(two)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_replay_that_starts_a_moment_earlier_is_the_same(seed: int) -> None:
    """The header of a journal is written before the first connection is dialed."""
    live, live_box = fresh()
    live.start(T0)
    replayed, box = fresh()
    replayed.start(T0 - 7_000_000)
    for item in recorded(seed):
        apply(live, item)
        feed_record(replayed, item)
    assert told(live, live_box, T0) == told(replayed, box, T0)
    assert (
        live.digest.value() == replayed.digest.value() and live.gaps == replayed.gaps and books(live) == books(replayed)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_pump_may_be_saved_and_loaded_again_and_again(seed: int) -> None:
    whole, _ = fresh()
    whole.start(T0)
    chain, _ = fresh()
    chain.start(T0)
    for number, item in enumerate(recorded(seed)[:2000]):
        apply(whole, item)
        apply(chain, item)
        if number % 100 == 0:
            state = checkpoint.save(chain)
            chain, _ = fresh()
            checkpoint.load(chain, state)
    assert whole.digest.value() == chain.digest.value() and checkpoint.save(whole) == checkpoint.save(chain)


# What may differ: counters for reports, sums that a report keeps, what was found before, caches, and names of what is not wanted.
# What two lines remember to compare themselves is made anew, and nobody asks where a stream was first; the rest of their
# arbiters is compared as it is saved.
REPORTS = {"counts", "delay", "flow", "gaps", "router", "handlers", "_handlers", "topic", "topic_delta", "decode", "fresh", "_learned", "_sum",
           "_known", "_told", "_random", "effects", "_effects", "_encode", "feed", "feeds", "names", "refused", "look_at",
           "tally", "arbiters", "source"}  # fmt: skip
ROOMS = ("truetape.core", "truetape.venues")


def differences(one: Any, two: Any, path: str = "pump", seen: dict[int, Any] | None = None) -> list[str]:
    """Where two trees of our own objects differ, but for what belongs to reports."""
    seen = {} if seen is None else seen
    if type(one) is not type(two):
        return [f"{path}: {one!r} | {two!r}"]
    if path.endswith(".book"):
        parts = (
            [(one.bids(), two.bids()), (one.asks(), two.asks()), (one.marks(), two.marks())]
            if hasattr(one, "bids")
            else []
        )
        return [f"{path}: {a!r} | {b!r}" for a, b in parts if a != b]
    if type(one).__module__.startswith(ROOMS) and not isinstance(one, msgspec.Struct):
        if id(one) in seen:
            return []
        seen[id(one)] = one
        names = set(getattr(one, "__dict__", {}))
        for kind in type(one).__mro__:
            names |= set(getattr(kind, "__slots__", ()))
        names = {name for name in names - REPORTS if hasattr(one, name)}
        return [
            found
            for name in sorted(names)
            for found in differences(getattr(one, name), getattr(two, name), f"{path}.{name}", seen)
        ]
    if isinstance(one, dict):
        if list(one) != list(two):
            return [f"{path}: keys {list(one)} | {list(two)}"]
        return [found for key in one for found in differences(one[key], two[key], f"{path}[{key}]", seen)]
    if isinstance(one, list | tuple) and any(type(each).__module__.startswith(ROOMS) for each in one):
        pairs = zip(one, two, strict=True)
        return [found for at, (a, b) in enumerate(pairs) for found in differences(a, b, f"{path}[{at}]", seen)]
    return [] if callable(one) or one == two else [f"{path}: {one!r} | {two!r}"]


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.floats(0, 1))
def test_nothing_is_left_out_of_a_checkpoint(seed: int, share: float) -> None:
    """Every attribute of every room, but what belongs to reports: a field that is added and forgotten fails here."""
    nothing_left_out(seed, share)


def nothing_left_out(seed: int, share: float) -> None:
    one, _, two, _ = halves(seed, round(share * len(recorded(seed))))
    assert differences(one, two) == []
    for link in two.links.values():
        assert all(link.feed.names[stream.raw] == stream.symbol for stream in link.streams.values())


@pytest.mark.parametrize("venue", known())
def test_what_every_dialect_remembers_can_be_stored(venue: str) -> None:
    kind = dialect(venue)
    url = URLS.get(venue, kind.url)
    one = kind(venue, Names(kind, url), url)
    if not hasattr(one, "memory"):
        left = {name: value for name, value in vars(one).items() if name not in ("label", "names", "url")}
        assert left == {}, "what is remembered under another name is forgotten"
        return
    words = [channel for channel in kind.channels if channel != "bar"]
    wants = [Want(channel, kind.native(symbol), symbol, 10) for symbol in ("BTC-USDT", "ETH-USDT") for channel in words]
    one.subscribe(wants)
    one.unsubscribe(wants[:1])
    one.subscribe(wants)
    memory = one.memory
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(memory), type=type(memory))
    assert again == memory and type(again) is type(memory)


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_event_comes_back_bit_for_bit(path: Path) -> None:
    """A checkpoint holds events (the digest's open chunk, changes that wait for a snapshot): 1 must not come back as 1.0."""
    player = transcript.Player(transcript.read(path), lenient=True)
    player.play()
    for event in [*player.world.told, *player.pump.digest.chunk]:
        data = msgspec.msgpack.encode(event)
        assert msgspec.msgpack.encode(msgspec.msgpack.decode(data, type=Event)) == data, event


def test_bytes_that_are_no_checkpoint_are_refused() -> None:
    pump, _ = fresh()
    for data in (b"", b"\x00", b"nonsense", msgspec.msgpack.encode([1, 2, 3])):
        with pytest.raises(msgspec.DecodeError):
            checkpoint.load(pump, data)
