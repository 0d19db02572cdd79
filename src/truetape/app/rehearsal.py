"""A fault rehearsed: a real gateway against a real simulator that makes it, and the simulator's own books as the judge.

Every book that the gateway calls LIVE is compared with the market all the while, not only at the end. `Outcome` tells when the gateway first
said that something was wrong, when every book was LIVE again, what the venue did not deliver, and how much of that a `Gap` covers.
`truetape faults` prints it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct

from truetape.app.config import parse as config
from truetape.app.live import Closed, Gateway, Subscription
from truetape.app.sim import VENUES, Options, Simulator, counterpart
from truetape.core.sim.faults import KNOWN, OF_FRAMES, inapplicable, parse
from truetape.core.sim.market import Market
from truetape.core.sim.oracle import Oracle
from truetape.core.sim.venue import Missed
from truetape.io.clock import now as clock
from truetape.model.event import Book, Gap, Status

SECOND = 1_000_000_000
AT_S = 3.0
"""When the fault comes: enough messages were seen by then for thresholds to be learned."""
SETTLED_S = 2.0
"""How long every book must be LIVE without a break to count as recovered."""
WITHIN_S = 30.0
"""How long after the fault's end recovery is waited for."""
QUIET_S = 0.5
LOOK_S = 0.02
SLACK = SECOND // 10
"""A message may be made a little before the last good one is received."""
SYMBOLS, RATE = 2, 120.0

PLAIN = "{name}@3s"
SCRIPTS: dict[str, tuple[tuple[str, ...], float]] = {
    "half-open": (("half-open@3s=12",), 12),
    "mute-symbol": (("mute-symbol@3s:BTC-USDT=6",), 6),
    "mute-after-ack": (("mute-after-ack@2.9s=6", "close-1006@3s"), 6),
    "never-ack": (("never-ack@2.9s=6", "close-1006@3s"), 6),
    "slow-drip": (("slow-drip@3s=7",), 7),
    "refuse-429": (("refuse-429@2.9s=4", "close-1006@3s"), 4),
    "rate-3001": (("rate-3001@2.9s=4", "close-1006@3s"), 4),
    "token-expired": (("token-expired@3s=3",), 3),
    "lifetime-cut": (("lifetime-cut@3s=5",), 4),
    "burst-100x": (("burst-100x@3s=1",), 1),
    "clock-jump": (("clock-jump@3s=3600",), 0),
    "duplicate": (("duplicate@3s=20",), 0),
    "fragment": (("fragment@3s=20",), 0),
}
"""Scripts that show a fault, and how long it lasts; those of a dial or a subscription come with a break, which makes us dial and subscribe."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one fault on one venue; times in seconds after the fault, None where there was nothing to see."""

    fault: str
    venue: str
    script: tuple[str, ...]
    detected_s: float | None
    said: str
    recovered_s: float | None
    lost: int
    accounted: int
    behind_s: float
    checks: int
    verdict: str
    ok: bool
    evidence: str


def scripts(name: str) -> tuple[tuple[str, ...], float]:
    """The lines that show a fault, and how long it lasts, s."""
    return SCRIPTS.get(name, ((PLAIN.format(name=name),), 0.0))


def matrix(names: Iterable[str], venues: Iterable[str]) -> list[tuple[str, str]]:
    """(fault, venue) of all that mean something."""
    chosen = list(venues) or list(VENUES)
    return [
        (name, venue) for name in (list(names) or list(KNOWN)) for venue in chosen
        if not inapplicable(name, counterpart(venue).wrong)
    ]  # fmt: skip


class Rehearsal:
    """One fault on one venue. `await run()` once."""

    def __init__(self, fault: str, venue: str, *, seed: int = 1) -> None:
        self.fault, self.venue, self.seed = fault, venue, seed
        self.lines, self.lasts_s = scripts(fault)
        self.wrong: list[str] = []
        self.checks = 0
        self.behind = 0
        self.detected: tuple[int, str] | None = None
        self.came_at = 0
        self.back_at = 0
        self.live_since = 0
        self.first_live = 0
        self.gaps: list[Gap] = []
        self.oracle: Oracle
        self.gateway: Gateway

    async def run(self) -> Outcome:
        """Rehearse it; takes the fault's time and some seconds more."""
        with ExitStack() as stack:
            tls = stack.enter_context(TemporaryDirectory(prefix="truetape-")) if self.fault == "cert-swap" else ""
            options = Options(
                venue=self.venue, symbols=SYMBOLS, rate=RATE, seed=self.seed, history=True, tls=tls,
                faults=tuple(parse(self.lines)),
            )  # fmt: skip
            self.came_at = clock() + round(AT_S * SECOND)
            async with Simulator(options) as sim:
                assert isinstance(sim.market, Market), "prepared flow has no history"
                self.oracle = Oracle(sim.market, clock())
                self.gateway = Gateway(config(tree(sim), "rehearsal", {}))
                async with self.gateway as gateway:
                    with gateway.subscribe("*", ["book"], bound=1_000_000, depth=10) as news:
                        return await self._watch(sim, news)

    async def _watch(self, sim: Simulator, news: Subscription) -> Outcome:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(news))
            await self._weather(sim)
            listening.cancel()
        self._look(clock(), last=True)
        self.gaps += [gap for gap in self.gateway.pump.judge.gaps if gap.channel == "book"]
        return self._outcome(sim.venue.missed or [])

    async def _weather(self, sim: Simulator) -> None:
        """From fair weather through the fault to its end; then the market stands still."""
        over = self.came_at + round(self.lasts_s * SECOND)
        while (now := clock()) < over + WITHIN_S * SECOND:
            self._look(now)
            if now > over + SETTLED_S * SECOND and sim.script.over and self._settled(now):
                break
            await asyncio.sleep(LOOK_S)
        if self.fault == "lifetime-cut":
            sim.venue.trouble.lifetime = 0
            await self._until(lambda: self._settled(clock()), WITHIN_S)
        sim.venue.rate = 0.0
        sim.venue.started(clock())
        await asyncio.sleep(QUIET_S)

    async def _until(self, claim: Callable[[], bool], within_s: float) -> None:
        end = clock() + round(within_s * SECOND)
        while not claim() and clock() < end:
            self._look(clock())
            await asyncio.sleep(LOOK_S)

    async def _listen(self, news: Subscription) -> None:
        """Every notice and every published book, as it comes."""
        try:
            while True:
                for item in await news.take():
                    now = clock()
                    if isinstance(item, Book):
                        self.oracle.follow(now)
                        self._compare(item.raw, item.bids, item.asks, item.seq, now)
                    elif isinstance(item, Gap | Status):
                        self._notice(item)
        except Closed:
            pass

    def _notice(self, item: Gap | Status) -> None:
        if isinstance(item, Status) and item.channel == "book" and item.recv >= self.came_at:
            if item.state == "LIVE":
                self.back_at = item.recv
            else:
                self.live_since = 0
        if self.detected is not None or item.recv < self.came_at or not item.venue:
            return  # what concerns the process says nothing of the feed
        if isinstance(item, Gap):
            self.detected = (item.recv, f"Gap: {item.reason}")
        elif item.state not in ("LIVE", "OPEN"):
            self.detected = (item.recv, f"{item.state}: {item.reason}")

    def _books(self) -> list[Any]:
        return [stream for link in self.gateway.pump.links.values() for stream in link.book_streams()]

    def _look(self, now: int, *, last: bool = False) -> None:
        """All books, whether something came or not; at the last look, in a market that stands still, they must be the market's."""
        self.oracle.follow(now)
        live = True
        for stream in self._books():
            if stream.state != "LIVE":
                live = False
                continue
            bids, asks = stream.sync.book.bids(10), stream.sync.book.asks(10)
            behind = self._compare(
                stream.raw, bids, asks, stream.sync.seq if stream.sync.rule.numbers != "none" else -1, now
            )
            if last and behind:
                self.wrong.append(f"{stream.raw} is LIVE and {behind / SECOND:.1f} s behind a market that stands still")
        if not live:
            self.live_since = 0
        elif not self.live_since:
            self.live_since = now
            self.first_live = self.first_live or now

    def _compare(self, raw: str, bids: Any, asks: Any, seq: int, now: int) -> int:
        self.checks += 1
        behind = self.oracle.behind(raw, bids, asks, seq, now)
        if behind is None:
            if len(self.wrong) < 20:
                at = f"{(now - self.came_at) / SECOND:+.2f} s"
                self.wrong.append(
                    f"{raw} at {at}, seq {seq}: LIVE as {bids[:2]} | {asks[:2]}, which the venue's book never was"
                )
            return 0
        if now > self.came_at:
            self.behind = max(self.behind, behind)
        return behind

    def _settled(self, now: int) -> bool:
        """LIVE for a while, or given up with a reason."""
        if self.live_since:
            return now - self.live_since > SETTLED_S * SECOND
        sessions = [link.session for link in self.gateway.pump.links.values() if link.session is not None]
        return all(session.state == "STOPPED" for session in sessions)

    def _outcome(self, missed: list[Missed]) -> Outcome:
        books = self._books()
        missed = [one for one in missed if one.at >= self.first_live > 0]
        ended = {stream.raw for stream in books if stream.state == "LIVE"}
        accounted = sum(any(covers(gap, one, gap.raw in ended) for gap in self.gaps) for one in missed)
        evidence = books[0].sync.evidence if books else "none"
        unlive = [stream for stream in books if stream.state != "LIVE"]
        detected = (self.detected[0] - self.came_at) / SECOND if self.detected else None
        recovered = None
        if not unlive and self.back_at:
            recovered = (self.back_at - self.came_at) / SECOND
        if self.wrong:
            verdict, ok = f"WRONG AND LIVE: {self.wrong[0]}", False
        elif any(not stream.reason for stream in unlive):
            verdict, ok = "NOT LIVE, AND SILENT", False
        elif unlive:
            verdict, ok = f"not LIVE and says why: {unlive[0].state}: {unlive[0].reason}", True
        elif accounted < len(missed) and not (evidence == "none" and self.fault in OF_FRAMES):
            verdict, ok = f"LIVE, BUT {len(missed) - accounted} LOST WITHOUT A GAP", False
        elif recovered is None:
            verdict, ok = "unharmed" if self.detected is None else "recovered", True
        else:
            verdict, ok = "recovered", True
        return Outcome(
            fault=self.fault, venue=self.venue, script=self.lines, detected_s=detected,
            said=self.detected[1] if self.detected else "", recovered_s=recovered, lost=len(missed), accounted=accounted,
            behind_s=self.behind / SECOND, checks=self.checks, verdict=verdict, ok=ok and self.checks > 0, evidence=evidence,
        )  # fmt: skip


def covers(gap: Gap, one: Missed, ended: bool) -> bool:
    """Whether a gap says that this change was not seen: by number, else by time. One that has not `ended` is told by its beginning only."""
    if gap.raw != one.raw:
        return False
    if gap.from_seq >= 0 and gap.to_seq >= gap.from_seq and gap.from_seq < one.seq <= gap.to_seq:
        return True
    return gap.from_ts - SLACK <= one.at and (not ended or one.at <= gap.to_ts + SLACK)


def tree(sim: Simulator) -> dict[str, Any]:
    """A configuration for one simulator, everything else by default."""
    feed: dict[str, Any] = {
        "venue": sim.options.venue, "symbols": sim.symbols, "channels": ["book"], "url": sim.ws, "rest_url": sim.rest, "depth": 10,
        "market": "always",
    }  # fmt: skip
    if sim.ca_file:
        feed["ca_file"] = sim.ca_file
    return {"feeds": [feed]}


async def rehearse(
    pairs: list[tuple[str, str]], *, at_once: int, told: Callable[[Outcome], None] = lambda _: None, seed: int = 1
) -> list[Outcome]:
    """All of them, so many at once; `told` is called as each ends."""
    places = asyncio.Semaphore(at_once)

    async def one(fault: str, venue: str) -> Outcome:
        async with places:
            outcome = await Rehearsal(fault, venue, seed=seed).run()
        told(outcome)
        return outcome

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(*pair)) for pair in pairs]
    return [task.result() for task in tasks]


def seconds(value: float | None) -> str:
    """`0.31`, or a dash."""
    return "—" if value is None else f"{value:.2f}" if math.isfinite(value) else "?"


__all__ = ["Outcome", "Rehearsal", "matrix", "rehearse", "seconds"]
