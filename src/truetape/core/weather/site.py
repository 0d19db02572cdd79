"""A simulated venue behind its network: takes calls, answers or refuses them, serves REST, and does what its machine says.

Next door: `core.sim.venue` is the machine; `network.py` carries; `oracle.py` remembers what was said.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qsl, urlsplit

from truetape.core.sim.act import Act, Beat, Cut, Drip, Freeze, Hang, Say, Swap
from truetape.core.sim.venue import Venue
from truetape.core.weather.clock import MS, SECOND, Clock
from truetape.core.weather.network import Item, Path, Wire
from truetape.core.weather.oracle import Oracle

TURN = 20 * MS
GIVE_UP = 10 * SECOND
"""How long an HTTP client waits for an answer."""


class Site:
    """One venue. `refusing` and `rest` are the faults of the moment; `ahead_ns` is how far its clock is ahead of ours."""

    def __init__(self, clock: Clock, venue: Venue, path: Path, oracle: Oracle, ahead_ns: int) -> None:
        self.clock = clock
        self.venue = venue
        self.path = path
        self.oracle = oracle
        self.ahead_ns = ahead_ns
        self.refusing: tuple[int, float] | None = None  # (HTTP status, retry after; -1 none): the answer to a handshake
        self.deaf = False  # handshakes get no answer at all
        self.rest: tuple[int, float] | None = None  # (HTTP status, 0 for none; retry after)
        self.rest_extra_ns = 0
        self.pong_loss = False
        self.mute = False  # the connection lives, pongs come, and nothing else
        self._clients: dict[int, Wire] = {}
        self._frozen: dict[int, None] = {}
        clock.every(TURN, self._turn)

    @property
    def now(self) -> int:
        """The venue's own clock."""
        return self.clock.now + self.ahead_ns

    def _turn(self) -> None:
        self._do(self.venue.tick(self.now))

    # -- what comes up --------------------------------------------------------------------------------------------------

    def arrived(self, wire: Wire, item: Item) -> None:
        """From the gateway."""
        kind, body = item
        if kind == "dial":
            self._dialed(wire, str(body))
        elif kind == "cut":
            if self._clients.pop(wire.number, None) is not None:
                self._frozen.pop(wire.number, None)
                self.venue.gone(wire.number, self.now)
        elif wire.number not in self._clients:
            return
        elif kind == "ping":
            if wire.number not in self._frozen and not self.pong_loss:
                wire.down.send(("pong", body))
        elif kind == "data":
            assert isinstance(body, bytes), "cannot happen because the driver sends bytes"
            with self.oracle.listening(wire.number):
                self._do(self.venue.received(wire.number, body, self.now))

    def _dialed(self, wire: Wire, target: str) -> None:
        if self.deaf:
            return
        if self.refusing is not None:
            wire.down.send(("refused", self.refusing))
            return
        if (reply := self.venue.refused(self.now)) is not None:
            wait = dict(reply.headers).get("Retry-After", "")
            wire.down.send(("refused", (reply.status, float(wait) if wait else -1.0)))
            return
        self._clients[wire.number] = wire
        wire.down.send(("accepted", None))
        with self.oracle.listening(wire.number):
            self._do(self.venue.opened(wire.number, target, self.now))

    def fetch(self, url: str, done: Callable[[int, bytes, float], None]) -> None:
        """A GET: there and back again, or an answer that is none. `done(status, body, retry_after_s)`."""
        there, back = self.path.delay(), self.path.delay() + self.rest_extra_ns
        if there + back >= GIVE_UP or self.path.held["up"] or self.path.held["down"]:
            self.clock.after(GIVE_UP, partial(done, 0, b"TimeoutError: ", -1.0))
            return
        self.clock.after(there, partial(self._serve, url, back, done))

    def _serve(self, url: str, back: int, done: Callable[[int, bytes, float], None]) -> None:
        if self.rest is not None:
            self.clock.after(back, partial(done, self.rest[0], b"", self.rest[1]))
            return
        parts = urlsplit(url)
        reply = self.venue.http(parts.path, dict(parse_qsl(parts.query)), self.now)
        self.clock.after(back, partial(done, reply.status, reply.body, -1.0))

    # -- what goes down -------------------------------------------------------------------------------------------------

    def _do(self, acts: list[Act]) -> None:
        for act in acts:
            if isinstance(act, Swap):
                continue  # certificates are not simulated
            wire = self._clients.get(act.client)
            if wire is None:
                continue
            match act:
                case Say():
                    if not self.mute:
                        wire.down.send(("frames", act.frames))
                case Hang():
                    self._left(wire)
                    wire.down.send(("close", (act.code, act.text)))
                case Cut():
                    self._left(wire)
                    wire.cut()
                case Freeze():
                    if act.frozen:
                        self._frozen[act.client] = None
                    else:
                        self._frozen.pop(act.client, None)
                case Drip():
                    wire.down.drip(act.bytes_per_s)
                case Beat():
                    pass  # a ping of the venue's: sockets answer it by themselves

    def _left(self, wire: Wire) -> None:
        del self._clients[wire.number]
        self._frozen.pop(wire.number, None)
        self.venue.gone(wire.number, self.now)

    def cut_all(self) -> None:
        """Every connection breaks."""
        for wire in list(self._clients.values()):
            self._left(wire)
            wire.cut()
