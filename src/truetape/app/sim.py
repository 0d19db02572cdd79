"""The simulator, wired: a simulated venue (`core.sim.venue`), a server before it, and a clock that paces it.

Every few milliseconds the venue takes a turn; what it then says is written. It decides everything; this moves bytes.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from truetape.app import cert
from truetape.app.config import ConfigError
from truetape.app.dialects import dialect
from truetape.app.ending import Ending
from truetape.core.feed.counterpart import Counterpart, Reply
from truetape.core.feed.delay import Histogram
from truetape.core.sim.act import Act, Beat, Cut, Drip, Freeze, Hang, Say, Swap
from truetape.core.sim.faults import Fault, check
from truetape.core.sim.listing import listings
from truetape.core.sim.loop import Loop
from truetape.core.sim.market import Market
from truetape.core.sim.venue import Venue
from truetape.io.clock import now as clock
from truetape.io.net.server import Peer, port_of, serve

SECOND = 1_000_000_000
BEAT_S = 0.002
"""How often due messages are made: at most this late, at most this many together."""
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
    tls: str = ""
    """A folder for the certificates of a simulator with TLS (`app.cert`); empty: without."""


def counterpart(venue: str) -> type[Counterpart]:
    """The other side of a venue's dialect. Raises ConfigError."""
    if venue not in VENUES:
        raise ConfigError(f"venue: expected one of {', '.join(VENUES)}, found {venue!r}")
    kind: type[Counterpart] = importlib.import_module(f"truetape.venues._serve_{venue}").Counterpart
    return kind


class Simulator:
    """A venue. `async with Simulator(options) as sim` serves until left; `sim.ws` and `sim.rest` say where, `sim.market` is the oracle."""

    def __init__(self, options: Options, now: Callable[[], int] = clock) -> None:
        self.options = options
        self.port = options.port
        self._now = now
        kind = self._kind = counterpart(options.venue)
        orders = options.orders or kind.orders
        rows = listings(options.symbols, options.seed, kind.size_decimals, options.venue in SHARES)
        market = Market(rows, dialect(options.venue).native, options.seed, now(), history=options.history)
        self.names = {raw: row.instrument.symbol for raw, row in market.listed.items()}
        self.check(options.faults)
        self.market = Loop(market, options.pregenerate, orders, now()) if options.pregenerate else market
        self.venue = Venue(
            kind, self.market, now(), rate=options.rate, orders=orders, key=options.key, faults=options.faults, seed=options.seed,
            watch=options.history,
        )  # fmt: skip
        self.counts = self.venue.counts
        self.script = self.venue.script
        self._peers: dict[int, Peer] = {}
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.lateness = Histogram()
        """How late our own beats came: what a load test must not take for the receiver's delay."""
        self._tls: ssl.SSLContext | None = None

    def check(self, faults: Sequence[Fault]) -> None:
        """Raise BadFault for what would do nothing here."""
        check(faults, self.options.venue, self._kind.wrong, bool(self.options.tls), self.names)

    @property
    def symbols(self) -> list[str]:
        """Canonical names, in the order of the list."""
        return [listed.instrument.symbol for listed in self.market.listed.values()]

    @property
    def ws(self) -> str:
        """The address for a feed's `url`."""
        return f"ws{'s' if self.options.tls else ''}://127.0.0.1:{self.port}{self._kind.path}"

    @property
    def rest(self) -> str:
        """The address for a feed's `rest_url`."""
        return f"http{'s' if self.options.tls else ''}://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> str:
        """The certificates for a feed's `ca_file`; empty without TLS."""
        return str(Path(self.options.tls) / "ca.pem") if self.options.tls else ""

    def pin(self, name: str = "first") -> str:
        """A pin for a feed's `pins`: of the certificate shown first, or of the `second` or `unknown` one."""
        return cert.pin(Path(self.options.tls), name)

    def restart_pace(self) -> None:
        """The rate was changed: it counts from now."""
        self.venue.started(self._now())

    def _show(self, name: str) -> None:
        """The certificate for handshakes from now on."""
        assert self._tls is not None, "a fault that needs TLS was refused without it"
        self._tls.load_cert_chain(Path(self.options.tls) / f"{name}.pem", Path(self.options.tls) / f"{name}.key")

    async def __aenter__(self) -> Simulator:
        if self.options.tls:
            cert.make(Path(self.options.tls))
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._show("first")
        try:
            self._server = await serve(
                self, "127.0.0.1", self.port, backlog_max=self.options.backlog_max, tls=self._tls
            )
        except OSError as error:
            raise ConfigError(
                f"port: expected one that is free, found {self.port}: {error.strerror or error}"
            ) from None
        self.port = port_of(self._server)
        self.venue.started(self._now())
        self._due = self._now()
        self._beat()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for peer in list(self._peers.values()):
            peer.close(1001, "the simulator ends")
        if self._server is not None:
            self._server.close()

    # -- what clients do (see io.net.server.Host) -----------------------------------------------------------------------

    def http(self, path: str, query: dict[str, str]) -> Reply:
        """A plain GET: the venue's own REST."""
        return self.venue.http(path, query, self._now())

    def refused(self) -> Reply | None:
        """How a handshake is refused."""
        return self.venue.refused(self._now())

    def opened(self, peer: Peer, target: str) -> None:
        """A client connected."""
        self._peers[peer.number] = peer
        self._do(self.venue.opened(peer.number, target, self._now()))

    def received(self, peer: Peer, data: bytes) -> None:
        """A client said something."""
        self._do(self.venue.received(peer.number, data, self._now()))

    def gone(self, peer: Peer) -> None:
        """A client left."""
        if self._peers.pop(peer.number, None) is not None:
            self.counts.cut += peer.cut
            self.venue.gone(peer.number, self._now())

    # -- what the venue does --------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BEAT_S, self._beat)
        now = self._now()
        self.lateness.add(max(0, now - self._due))
        self._due = now + round(BEAT_S * SECOND)
        self._do(self.venue.tick(now))

    def _do(self, acts: list[Act]) -> None:
        for act in acts:
            if isinstance(act, Swap):
                self._show("second" if act.trusted else "unknown")
                continue
            peer = self._peers.get(act.client)
            if peer is None:
                continue  # it left meanwhile
            match act:
                case Say():
                    peer.send(act.frames)
                case Hang():
                    peer.close(act.code, act.text)
                case Cut():
                    peer.abort()
                case Freeze():
                    peer.freeze(act.frozen)
                case Beat():
                    peer.ping()
                case Drip():
                    peer.drip(act.bytes_per_s)


async def until_stopped(simulator: Simulator, announce: Callable[[Simulator], None]) -> int:
    """Serve in the foreground until SIGTERM (0) or SIGINT (130)."""
    ending = Ending()
    async with simulator:
        gc.freeze()  # books live as long as we do: the collector need not walk them
        announce(simulator)
        return await ending.code
