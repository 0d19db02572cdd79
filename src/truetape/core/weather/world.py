"""One seed, played: the whole gateway against its venues on a virtual clock, first in the storm and then in the calm.

    Scenario ─► World(kits).play() ─► Outcome, or Violation with what did not hold

Next door: `scenario.py` draws; `mishap.py` makes things go wrong; `watch.py` and `reader.py` judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from random import Random

from msgspec import Struct

from truetape.core.feed.counterpart import Counterpart
from truetape.core.feed.health import Stream
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Dialect, Want
from truetape.core.route import checkpoint
from truetape.core.route.pump import Pump
from truetape.core.sim.listing import listings
from truetape.core.sim.venue import Venue
from truetape.core.weather.clock import MS, SECOND, Clock
from truetape.core.weather.driver import Driver
from truetape.core.weather.mishap import Mishaps
from truetape.core.weather.network import Path
from truetape.core.weather.oracle import Oracle, WatchedMarket
from truetape.core.weather.press import Press
from truetape.core.weather.reader import Reader, Violation, WatchedRouter, whole_of
from truetape.core.weather.scenario import CALM_S, SYMBOLS, Scenario, VenuePlan
from truetape.core.weather.site import Site
from truetape.core.weather.watch import Watch
from truetape.model.record import Record

START = 1_800_000_000 * SECOND
LIVE_WITHIN = 15 * SECOND
DRAINED_WITHIN = 2_800 * MS
"""Before silence makes anything stale, and what is asked for then comes in; 5 s are promised."""
ASKED_AGAIN_WITHIN = 6 * SECOND
LULL = 10 * SECOND
INSPECT_EVERY = SECOND // 4
BACKOFF_MAX_S = 4.0
"""So that who waits when the weather turns is back within the bound."""


class Kit(Struct, frozen=True):
    """What the app hands in of one venue, which core may not import."""

    venue: str
    dialect: type[Dialect]
    counterpart: type[Counterpart]
    names: Callable[[str], dict[str, str]]
    """A fresh map of names for a URL."""
    shares: bool = False


Play = Callable[[Pump, Record], None]
"""One record into a pump, as a replay does it."""


class Outcome(Struct, frozen=True):
    """What a seed came to."""

    seed: int
    virtual_s: float
    events: int
    records: int
    published: int
    compared: int
    gaps: int
    reconnects: int
    digest: str
    trace: str


class World:
    """Everything that one scenario needs, wired."""

    def __init__(self, scenario: Scenario, kits: Sequence[Kit], play: Play) -> None:
        self.scenario = scenario
        self.replay_one = play
        self.clock = Clock(START)
        self.sites: list[Site] = []
        self.feeds: list[Feed] = []
        for index, kit in enumerate(kits):
            self._venue(index, kit, scenario.venues[index])
        self.router = WatchedRouter()
        self.pump = Pump(self.feeds, router=self.router, seed=scenario.seed, now=START)
        self.watch = Watch(self.clock, self.pump, lambda link: self._site_of(link.feed).oracle)
        self.router.gap = self.watch.gap
        self.driver = Driver(self.clock, self.pump, self._site, self._patience, self.watch)
        self.readers = [Reader(n, plan, self.clock, self.router) for n, plan in enumerate(scenario.consumers)]
        for reader in self.readers:
            self.driver.wakers[reader.box] = reader.wake
        self.press = Press(self.clock, [reader.box for reader in self.readers], self.driver.wake)
        self.mishaps = Mishaps(scenario.mishaps, self.clock, self.sites, self.readers, self.press, START)
        self._state = b""

    def _venue(self, index: int, kit: Kit, plan: VenuePlan) -> None:
        seed = self.scenario.seed
        random = Random(f"{seed}:{kit.venue}:network")
        rows = listings(SYMBOLS[index], seed, kit.counterpart.size_decimals, kit.shares)
        market = WatchedMarket(rows, kit.dialect.native, seed, START)
        oracle = Oracle(market)
        path = Path(self.clock, random.random, int(plan.base_ms * MS), int(plan.jitter_ms * MS))
        ahead = int(plan.ahead_ms * MS)
        venue = Venue(oracle.kind(kit.counterpart), market, START + ahead, rate=plan.rate, seed=seed)
        self.sites.append(Site(self.clock, venue, path, oracle, ahead))
        url = f"ws://{kit.venue}.sim{kit.counterpart.path}"
        channels = [name for name in plan.channels if name in kit.dialect.channels]
        raws = list(market.listed)
        wants = tuple(
            Want(channel, raw, market.listed[raw].instrument.symbol, plan.depth if channel == "book" else 0)
            for raw in raws
            for channel in channels
        )
        ping, pong = plan.profile
        timing = Timing(ping_every_s=ping, pong_within_s=pong, backoff_max_s=BACKOFF_MAX_S)
        self.feeds.append(
            Feed(
                kit.venue, kit.venue, kit.venue, kit.dialect, url, f"http://{kit.venue}.sim", wants, kit.names(url), timing,
                per_connection=plan.per_connection, depth=plan.depth, lines=plan.lines,
            )
        )  # fmt: skip

    def _site_of(self, feed: Feed) -> Site:
        return self.sites[[one.name for one in self.feeds].index(feed.name)]

    def _site(self, source: str) -> Site:
        return self._site_of(self.pump.links[source].feed)

    def _patience(self, source: str) -> int:
        timing = self.pump.links[source].feed.timing
        return round((timing.dial_s + timing.handshake_s) * SECOND)

    # -- the play -------------------------------------------------------------------------------------------------------

    def play(self) -> Outcome:
        """Storm, calm, and the replay of what was recorded. Raises Violation, and whatever a bug raises."""
        self.clock.every(INSPECT_EVERY, self._inspect)
        self.driver.checkpoint_at = 50 + int(self.scenario.checkpoint_share * 2_000)
        self.driver.checkpoint = self._save
        self.driver.start()
        self.clock.run(START + round(self.scenario.storm_s * SECOND))
        self.mishaps.heal()
        for site in self.sites:
            site.oracle.market.calm()
        healed = self.clock.now
        self.clock.run(healed + LIVE_WITHIN)
        self.clock.run(max([healed + round(CALM_S * SECOND), *(self._patient(stream) for stream in self._dark())]))
        for stream in self._dark():
            raise Violation(
                f"{stream.venue} {stream.raw}: expected LIVE by now, found {stream.state} ({stream.reason})"
            )
        for site in self.sites:
            site.venue.rate = 0.0
        self.clock.run(self.clock.now + DRAINED_WITHIN)
        whole = whole_of(self.router)
        for _ in range(8):  # what is asked for anew meanwhile comes in too, and is taken a little later
            if any(reader.box.ledger().queued for reader in self.readers):
                self.clock.run(self.clock.now + LULL // 40)
        for reader in self.readers:
            if reader.box.ledger().queued:
                reader.fail(f"{reader.box.ledger().queued} events still wait long after the last")
            reader.drained(whole)
        self._replays()
        return self._outcome()

    def _inspect(self) -> None:
        self.watch.inspect()
        for reader in self.readers:
            reader.check()

    def _dark(self) -> list[Stream]:
        """Books that are not LIVE; one that was a moment ago and has just been silent for a little long is no fault."""
        books = (stream for link in self.pump.links.values() for stream in link.book_streams())
        lull = self.clock.now - LULL
        return [
            stream
            for stream in books
            if not (stream.state == "LIVE" or (stream.sync and stream.sync.live and stream.last > lull))
        ]

    @staticmethod
    def _patient(stream: Stream) -> int:
        """What was acknowledged and never came is missed at the stream's threshold, 30 s while nothing is learned; and asked for again."""
        return stream.awaited + stream.threshold + ASKED_AGAIN_WITHIN

    def _save(self) -> None:
        self._state = checkpoint.save(self.pump)

    def _replays(self) -> None:
        """What was recorded leads to the same digest, from the beginning and from a checkpoint on the way."""
        expected = self.pump.digest.value()
        records = self.driver.records
        pump = self._fresh()
        for item in records:
            self.replay_one(pump, item)
        if pump.digest.value() != expected:
            raise Violation(f"the replay of {len(records)} records has another digest")
        if self._state:
            pump = self._fresh()
            checkpoint.load(pump, self._state)
            at = self.driver.checkpoint_at
            for item in records[at:]:
                self.replay_one(pump, item)
            if pump.digest.value() != expected:
                raise Violation(f"the replay from a checkpoint before record {at} of {len(records)} has another digest")

    def _fresh(self) -> Pump:
        pump = Pump(self.feeds, seed=self.scenario.seed, now=START)
        pump.start(START)
        return pump

    def _outcome(self) -> Outcome:
        digest = self.pump.digest.value()
        trace = sha256(digest.encode())
        for reader in self.readers:
            trace.update(repr((reader.box.ledger(), reader.box.stats)).encode())
        trace.update(repr((self.clock.events, len(self.driver.records))).encode())
        sessions = [link.session for link in self.pump.links.values() if link.session is not None]
        return Outcome(
            self.scenario.seed, (self.clock.now - START) / SECOND, self.clock.events, len(self.driver.records),
            sum(len(rows) for rows in self.router.log.values()), self.watch.compared, self.router.gaps,
            sum(session.reconnects for session in sessions), digest, trace.hexdigest(),
        )  # fmt: skip


def player(scenario: Scenario, kits: Sequence[Kit], play: Play) -> Callable[[], Outcome]:
    """A scenario, ready to be played."""
    return partial(_play, scenario, kits, play)


def _play(scenario: Scenario, kits: Sequence[Kit], play: Play) -> Outcome:
    return World(scenario, kits, play).play()
