"""The simulator, wired: a market, a venue's counterpart before each client, a server, and a clock that paces them.

Every few milliseconds the market takes the steps that are due; each change is worded at once for every client that wants its symbol,
so that what a client is told and what it fetches never disagree; a client's frames of one turn are written together. Deterministic
but for time stamps: the flow depends on the seed and the number of steps alone.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
from collections.abc import Callable
from random import Random

from msgspec import Struct

from truetape.app.config import ConfigError
from truetape.app.dialects import dialect
from truetape.core.feed.counterpart import Answer, Counterpart, Dismissed, Native, Reply, Subscribed, Unsubscribed
from truetape.core.sim.faults import Fault, Script
from truetape.core.sim.listing import listings
from truetape.core.sim.loop import Loop
from truetape.core.sim.market import Market
from truetape.io.clock import now as clock
from truetape.io.net.server import Peer, port_of, serve

SECOND = 1_000_000_000
BEAT_S = 0.002
"""How often due messages are made: at most this late, at most this many together."""
TURN_MAX = 500
"""Messages of one turn; what is due beyond waits for the next, so that clients are heard in between."""
CATCH_UP = SECOND // 4
"""What was missed beyond this is not made up for, but counted as late."""
TICK_EVERY = SECOND // 10
VENUES = ("binance", "kraken", "tickdb")
"""Venues whose other side we speak."""
SHARES = ("tickdb",)


class Options(Struct, frozen=True, kw_only=True):
    """What is simulated."""

    venue: str
    symbols: int = 3
    rate: float = 100.0
    seed: int = 1
    port: int = 0
    key: str = ""
    orders: int = 0
    """Orders behind one book message; 0: as the venue (Binance collects several, Kraken sends each)."""
    faults: tuple[Fault, ...] = ()
    backlog_max: int = 32 * 1024 * 1024
    """Bytes that may wait for a client that does not read; then it is cut."""
    history: bool = False
    pregenerate: int = 0
    """Book changes to prepare and play in a loop, for load; 0: live order flow."""


class Counts(Struct):
    """What was done so far."""

    messages: int = 0
    steps: int = 0
    frames: int = 0
    late: int = 0
    clients: int = 0
    cut: int = 0


def counterpart(venue: str) -> type[Counterpart]:
    """The other side of a venue's dialect. Raises ConfigError."""
    if venue not in VENUES:
        raise ConfigError(f"venue: expected one of {', '.join(VENUES)}, found {venue!r}")
    kind: type[Counterpart] = importlib.import_module(f"truetape.venues._serve_{venue}").Counterpart
    return kind


class _Client:
    """One connection: the peer, the venue that stands before it, and what waits to be written in this turn."""

    __slots__ = ("out", "peer", "told", "venue")

    def __init__(self, peer: Peer, venue: Counterpart) -> None:
        self.peer = peer
        self.venue = venue
        self.out: list[bytes] = []
        self.told: dict[str, None] = {}


class Simulator:
    """A venue. `async with Simulator(options) as sim` serves until left; `sim.ws` and `sim.rest` say where, `sim.market` is the oracle."""

    def __init__(self, options: Options, now: Callable[[], int] = clock) -> None:
        self.options = options
        self.counts = Counts()
        self.port = options.port
        self._now = now
        self._kind = counterpart(options.venue)
        self._orders = options.orders or self._kind.orders
        rows = listings(options.symbols, options.seed, self._kind.size_decimals, options.venue in SHARES)
        market = Market(rows, dialect(options.venue).native, options.seed, now(), history=options.history)
        self.market = Loop(market, options.pregenerate, self._orders, now()) if options.pregenerate else market
        self.script = Script(options.faults, now(), Random(f"{options.seed}:faults").random)
        self._clients: dict[Peer, _Client] = {}
        self._by_raw: dict[str, dict[_Client, None]] = {raw: {} for raw in self.market.listed}
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_from = now()
        self._next_tick = now()
        self._next_ping = now()
        self._thaw_at = 0

    @property
    def symbols(self) -> list[str]:
        """Canonical names, in the order of the list."""
        return [listed.instrument.symbol for listed in self.market.listed.values()]

    @property
    def ws(self) -> str:
        """The address for a feed's `url`."""
        return f"ws://127.0.0.1:{self.port}{self._kind.path}"

    @property
    def rest(self) -> str:
        """The address for a feed's `rest_url`."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Simulator:
        try:
            self._server = await serve(self, "127.0.0.1", self.port, backlog_max=self.options.backlog_max)
        except OSError as error:
            raise ConfigError(
                f"port: expected one that is free, found {self.port}: {error.strerror or error}"
            ) from None
        self.port = port_of(self._server)
        self._due_from = self._now()
        self._beat()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for client in list(self._clients.values()):
            client.peer.close(1001, "the simulator ends")
        if self._server is not None:
            self._server.close()

    # -- what clients do (see io.net.server.Host) -----------------------------------------------------------------------

    def http(self, path: str, query: dict[str, str]) -> Reply:
        """A plain GET: the venue's own REST."""
        return self._kind.http(self.market.listed, path, query, self._now())

    def opened(self, peer: Peer, target: str) -> None:
        """A client connected."""
        client = self._clients[peer] = _Client(peer, self._kind(self.market.listed, self.options.key))
        self.counts.clients += 1
        self._answer(client, client.venue.opened(target, self._now()))

    def received(self, peer: Peer, data: bytes) -> None:
        """A client said something."""
        if peer.frozen or (client := self._clients.get(peer)) is None:
            return
        self._answer(client, client.venue.received(data, self._now()))

    def gone(self, peer: Peer) -> None:
        """A client left."""
        client = self._clients.pop(peer, None)
        if client is not None:
            self.counts.cut += peer.cut
            for raw in client.told:
                self._by_raw[raw].pop(client, None)

    def _answer(self, client: _Client, answers: list[Answer]) -> None:
        frames: list[bytes] = []
        dismissed: Dismissed | None = None
        for answer in answers:
            if isinstance(answer, bytes):
                frames.append(answer)
            elif isinstance(answer, Subscribed):
                client.told[answer.raw] = None
                self._by_raw[answer.raw][client] = None
            elif isinstance(answer, Unsubscribed):
                client.told.pop(answer.raw, None)
                self._by_raw[answer.raw].pop(client, None)
            else:
                dismissed = answer
        self._send(client, frames)
        if dismissed is not None:
            client.peer.close(dismissed.code, dismissed.text)

    def _send(self, client: _Client, frames: list[bytes]) -> None:
        self.counts.frames += len(frames)
        client.peer.send(frames)

    # -- what the clock does --------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """One turn: faults, the messages that are due, what the venue says by the clock."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BEAT_S, self._beat)
        now = self._now()
        for fault in self.script.due(now):
            self._break(fault, now)
        if self._thaw_at and now >= self._thaw_at:
            self._freeze(False)
        counts, rate = self.counts, self.options.rate
        due = int((now - self._due_from) * rate / SECOND)
        missed = due - counts.messages - counts.late - max(1, int(rate * CATCH_UP / SECOND))
        if missed > 0:
            counts.late += missed
        self._steps(min(due - counts.late, counts.messages + TURN_MAX), now)
        if now >= self._next_tick:
            self._next_tick = now + TICK_EVERY
            self._tick(now)

    def _steps(self, until: int, now: int) -> None:
        counts, market, by_raw, orders = self.counts, self.market, self._by_raw, self._orders
        spoiled, messages = self.script.active, self._kind.messages
        written: dict[_Client, None] = {}
        while counts.messages < until:
            change = market.step(now, orders)
            counts.messages += messages(change)
            counts.steps += 1
            for client in by_raw[change.raw]:
                frames = client.venue.encode(change, now)
                if spoiled:
                    frames = self._left_of(change.raw, frames)
                client.out += [frame for _, frame in frames]
                written[client] = None
        for client in written:
            out, client.out = client.out, []
            self._send(client, out)

    def _tick(self, now: int) -> None:
        ping = self._kind.ping_every_s and now >= self._next_ping
        if ping:
            self._next_ping = now + round(self._kind.ping_every_s * SECOND)
        for client in list(self._clients.values()):
            said = client.venue.tick(now)
            self._send(client, [frame for raw, native in said for _, frame in self._left_of(raw, [native])])
            if ping:
                client.peer.ping()

    def _left_of(self, raw: str, frames: list[Native]) -> list[Native]:
        """What the script lets through of one symbol's frames for one client."""
        if not raw or not self.script.active:
            return frames
        return self.script.spoil((raw, self.market.listed[raw].instrument.symbol), frames)

    def _break(self, fault: Fault, now: int) -> None:
        """A fault that concerns connections."""
        if fault.name == "half-open":
            self._freeze(True)
            self._thaw_at = now + round(fault.value * SECOND) if fault.value else 0
            return
        for client in list(self._clients.values()):
            if fault.name == "close-1006":
                client.peer.abort()
            else:
                client.peer.close(int(fault.name.partition("-")[2]))

    def _freeze(self, frozen: bool) -> None:
        self._thaw_at = 0
        for client in list(self._clients.values()):
            client.peer.freeze(frozen)


async def until_stopped(simulator: Simulator, announce: Callable[[Simulator], None]) -> int:
    """Serve in the foreground until SIGTERM (0) or SIGINT (130)."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(code: int) -> None:
        if not stopped.done():
            stopped.set_result(code)

    loop.add_signal_handler(signal.SIGTERM, stop, 0)
    loop.add_signal_handler(signal.SIGINT, stop, 130)
    async with simulator:
        gc.freeze()  # books live as long as we do: the collector need not walk them
        announce(simulator)
        return await stopped
