"""The downstream service, wired: who is admitted, what plain GETs answer, and how it drains.

    io.serve.gateway (sockets) ─► Visit (one client) ─► core.serve.Peer ─► Desk.subscribe ─► Router, Wants
                                         └── io.serve.Hall gives turns ◄── the driver's wakers

Next door: `live.py` runs the gateway; `desk.py` has the clients' subscriptions; `core.serve` decides.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import truetape
from truetape.app.config import ConfigError
from truetape.app.config_serve import ServeConfig
from truetape.app.desk import Desk
from truetape.app.exposure import LOOPBACK, certificate, refuse_exposure
from truetape.app.keyring import bearer, keyring, unfounded
from truetape.app.native import PREFIX, Natives
from truetape.app.native_visit import NativeVisit
from truetape.app.pages import OPERATORS, TEXT, Pages
from truetape.app.secrets import redact
from truetape.app.visit import Visit
from truetape.core.serve.claims import EVERYONE, Claims
from truetape.core.serve.frames import Frames
from truetape.core.serve.history import Histories
from truetape.core.serve.meter import Bucket, Crowd
from truetape.core.serve.peer import Peer, Refused, Rules
from truetape.io.clock import now as clock
from truetape.io.serve.client import Client, Pipe
from truetape.io.serve.door import Doors, Files
from truetape.io.serve.gateway import Answer, Request, listen
from truetape.io.serve.hall import Hall, Stage
from truetape.io.serve.sidecar import Sidecar
from truetape.io.serve.tokens import Keyring, Revoked
from truetape.model.wire import JSON, MSGPACK

if TYPE_CHECKING:
    from truetape.app.live import Gateway

SECOND = 1_000_000_000
PATH = "/v1/stream"
GOODBYE_S = 2.0
"""How long clients have to answer a close frame at the end."""
AGAIN_S = (1.0, 6.0)
"""When clients are told to come back after a drain: spread, so that they do not come all at once."""
DOORSTEP = 32
FAREWELLS = 100
"""So many in one turn of the loop."""
SWEEP_EVERY = 5 * SECOND


class Service:
    """A gateway's downstream side. `pages` answers plain GETs by path; `keyring` turns tokens into claims, where tokens are asked for."""

    def __init__(self, gateway: Gateway, how: ServeConfig, epoch: str) -> None:
        self.gateway = gateway
        self.how = how
        limits = how.limits
        self.keyring = keyring(how)
        self.revoked = Revoked(Path(how.revoked_file))
        self.revoked.look()
        self.rules = self._rules(epoch)
        self.frames = Frames(redact)
        self.histories = Histories(gateway.pump.router, how.history, round(how.linger_s * SECOND))
        self.hall = Hall(self.frames, how.coalesce_ms / 1000, gateway.driver.fail)
        self.hall.on_beat = self._beat
        self.hall.stage = Stage(gateway.pump.router, gateway.driver.wakers)
        self.draining = False
        self.port = how.port
        self.tls: ssl.SSLContext | None = None
        self.refused: dict[str, int] = {}
        self.pages = Pages(self).by_path
        self._addresses = Crowd(limits.connections_per_address)
        self._tokens = Crowd(limits.connections_per_token)
        self._handshakes: dict[str, Bucket] = {}
        self.doors = Doors(limits.connections_per_address)
        self.desk = Desk(self, how.linger_s)
        self._numbers = 0
        self._swept = 0
        self._looked = 0
        self._server: asyncio.Server | None = None
        self._sidecar: Sidecar | None = None
        self.natives = Natives(self)
        self._empty = asyncio.Event()
        self._empty.set()

    def _rules(self, epoch: str) -> Rules:
        limits = self.how.limits
        return Rules(
            version=truetape.__version__, epoch=epoch, tokens=self.keyring is not None, authenticate_within_s=limits.authenticate_within_s,
            idle_s=limits.idle_s, message_bytes=limits.message_bytes, messages_per_s=limits.messages_per_s,
            burst=max(1, round(5 * limits.messages_per_s)), subscriptions=limits.subscriptions, history=self.how.history,
        )  # fmt: skip

    # -- life -----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises ConfigError."""
        how = self.how
        refuse_exposure(how, tokens=self.rules.tokens)
        try:
            self.tls = certificate(how)
            self._files = Files()
            self._bound()
            self._server = await listen(self, self.doors, how.host, how.port, self.tls, how.limits.message_bytes)
        except OSError as error:
            raise ConfigError(
                f"serve: cannot listen on {how.host}:{how.port}: {error.strerror or error}; set another [serve] port, or 0 for a free one"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        if how.socket:
            self._sidecar = Sidecar(Path(how.socket), self._local)
            try:
                await self._sidecar.start()
            except OSError as error:
                raise ConfigError(f"serve.socket: {how.socket}: {error.strerror or error}") from None
        self.hall.start()

    async def drain(self) -> None:
        """Not ready from now on; every client is told to come back, at times spread over a few seconds. Plain GETs are answered still."""
        self.draining = True
        if self._sidecar is not None:
            self._sidecar.close()
        self.natives.drain()
        for index, client in enumerate(list(self.hall.clients)):
            again_s = AGAIN_S[0] + index % 50 * (AGAIN_S[1] - AGAIN_S[0]) / 50
            client.say(client.peer.end("draining", "the gateway ends", clock(), retry_after_s=round(again_s, 1)))
            if index % FAREWELLS == FAREWELLS - 1:
                await asyncio.sleep(0)  # who asks whether we are ready shall not wait for thousands of farewells

    async def close(self) -> None:
        """Let everybody go; who has not left by then is cut."""
        if not self.draining:
            await self.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._empty.wait()
        for client in list(self.hall.clients):
            client.pipe.abort()
        self.natives.close()
        self.doors.close()
        self.hall.stop()

    def replace(self, how: ServeConfig, keys: Keyring | None) -> None:
        """Keys, revocations, origins and limits from now on. Who came with a key that is gone, or without a token that is asked for now, goes;
        others stay, with the limits that they came with where those are their own."""
        before, self.keyring, self.how = self.keyring, keys, how
        if self.revoked.path != Path(how.revoked_file):
            self.revoked = Revoked(Path(how.revoked_file))
        self.revoked.look()
        self.rules = self._rules(self.rules.epoch)
        self.hall.window_s = how.coalesce_ms / 1000
        self._addresses.most = how.limits.connections_per_address
        self._tokens.most = how.limits.connections_per_token
        self._bound()
        self._handshakes.clear()
        now = clock()
        for client in list(self.hall.clients):
            claims = client.peer.claims
            if client.address != "unix" and claims is not None and (why := unfounded(claims, before, keys)):
                client.say(client.peer.end("revoked" if claims is not EVERYONE else "no_token", why, now))
        for visit in list(self.natives.visits.values()):
            if why := unfounded(visit.claims, before, keys):
                visit.hang(1008, why)

    def hang_up(self) -> None:
        """The last thing of all: nobody is told any more how the gateway is."""
        if self._server is not None:
            self._server.close()

    def waiting_for(self) -> str | None:
        """Why it is not ready; None where it is: not draining, no book waits to become whole, and where there are books one can be used."""
        if self.draining:
            return "draining"
        links = self.gateway.pump.links.values()
        streams = [stream for link in links for stream in link.book_streams()]
        useful = not streams or any(s.state in ("LIVE", "QUIET") for s in streams)
        late = [s for s in streams if not useful or s.state in ("SYNCING", "RESYNC", "GAP")]
        waiting = [f"{s.venue}:{s.symbol} {s.state}" for s in late]
        return "waiting for " + ", ".join(waiting[:10]) if waiting else None

    def _beat(self, now: int) -> None:
        self.natives.beat(now)
        if self.keyring is not None and now - self._looked >= SECOND:
            self._looked = now
            if self.revoked.look():
                for client in list(self.hall.clients):
                    claims = client.peer.claims
                    if claims is not None and claims.id in self.revoked.ids:
                        client.say(client.peer.end("revoked", f"the token of {claims.name} was revoked", now))
        if now - self._swept >= SWEEP_EVERY:
            self._swept = now
            self.desk.sweep(now)
            self._bound()
            self._handshakes.clear()

    # -- admission (see io.serve.gateway.Host) --------------------------------------------------------------------------

    def get(self, request: Request) -> Answer | asyncio.Future[Answer]:
        """A plain GET."""
        if self.natives.owns(request.path):
            return self.natives.get(request)
        page = self.pages.get(request.path)
        if page is None:
            known = ", ".join(sorted(self.pages))
            return Answer(404, f"expected one of {known}, or a WebSocket at {PATH}\n".encode(), TEXT)
        if self.rules.tokens and request.path in OPERATORS:
            try:
                claims = self.claims(bearer(request.headers), clock())
            except Refused as error:
                return Answer(401, f"{error}\n".encode(), {**TEXT, "WWW-Authenticate": "Bearer"})
            if not claims.operates:
                return Answer(403, b"expected a token of role ops or admin\n", TEXT)
        return page(request)

    def upgrade(self, request: Request) -> Answer | Visit | NativeVisit:
        """A handshake."""
        native = request.path.startswith(PREFIX)
        if request.path != PATH and not native:
            return self._no(404, f"expected a WebSocket at {PATH}")
        if self.draining:
            self.refused["503"] = self.refused.get("503", 0) + 1
            return Answer(503, b"draining\n", {**TEXT, "Retry-After": "2"})
        origin = request.headers.get("origin")
        if origin is not None and origin not in self.how.origins and not self._own(origin, request):
            return self._no(403, "this origin is not allowed; the gateway's [serve] origins lists those that are")
        if self._crowded():
            return Answer(503, b"too many connections\n", {**TEXT, "Retry-After": "5"})
        if native:
            return self.natives.upgrade(request)
        offered = [
            name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",") if name.strip()
        ]
        chosen = next((name for name in offered if name in (JSON, MSGPACK)), "" if offered else JSON)
        if not chosen:
            return self._no(400, f"expected sub-protocol {JSON} or {MSGPACK}")
        claims = None
        url_token = dict(parse_qsl(request.query)).get("token", "")
        if url_token and not self.how.token_in_url:
            return self._no(
                400, "expected no token in the address; send it in the Authorization header, or authenticate first"
            )
        if self.rules.tokens and ("authorization" in request.headers or url_token):
            try:
                claims = self.claims(url_token or bearer(request.headers), clock())
            except Refused as error:
                return self._no(401, str(error))
        return Visit(self, chosen, claims)

    def _local(self, subprotocol: str) -> Visit | None:
        """A client on the Unix socket: the gateway's own user."""
        welcome = subprotocol in (JSON, MSGPACK) and not self.draining and not self._crowded()
        return Visit(self, subprotocol, EVERYONE) if welcome else None

    def _crowded(self) -> bool:
        """Whether there are as many clients as may be: some files are left to those who ask how we are, and to say 503."""
        room = self.doors.most - min(DOORSTEP, self.doors.most // 4)
        return len(self.hall.clients) + len(self.natives.visits) >= min(self.how.limits.connections or room, room)

    def _bound(self) -> None:
        """What the limit on open files leaves to the door, beside the connections that there are by now."""
        self.doors.bound(self._files.room(len(self.gateway.pump.links)), self.how.limits.connections_per_address)

    def _no(self, status: int, text: str) -> Answer:
        self.refused[str(status)] = self.refused.get(str(status), 0) + 1
        return Answer(status, f"{text}\n".encode(), TEXT)

    def _own(self, origin: str, request: Request) -> bool:
        """Whether it is the page that this very gateway serves, from the address that it listens on."""
        scheme = "https" if self.how.tls is not None else "http"
        names = (*LOOPBACK, "[::1]") if self.how.host in LOOPBACK else (self.how.host,)
        return origin in [f"{scheme}://{name}:{self.port}" for name in names]

    def enter(self, visit: Visit, pipe: Pipe, address: str) -> Client | None:
        """A client stands at the door; None where it was sent away."""
        now = clock()
        limits = self.how.limits
        peer = Peer(self.desk, self.rules, "json" if visit.subprotocol == JSON else "msgpack", now, visit.claims)
        self._numbers += 1
        client = Client(
            self._numbers,
            pipe,
            peer,
            self.frames,
            address,
            high=limits.buffer_bytes,
            write_ns=round(limits.write_s * SECOND),
        )
        bucket = self._handshakes.setdefault(
            address, Bucket(limits.handshakes_per_s, max(1, 5 * limits.handshakes_per_s), now)
        )
        if address != "unix" and (not bucket.take(now) or not self._addresses.enter(address)):
            client.say(peer.end("policy", f"too many connections from {address}", now))
            return None
        if visit.claims not in (None, EVERYONE) and not self.seated(client, visit.claims):
            self._addresses.leave(address)
            client.say(peer.end("policy", f"too many connections of {visit.claims.name}", now))
            return None
        self.hall.clients[client] = None
        self._empty.clear()
        self.desk.clients[peer] = client
        client.say(peer.hello(now))
        return client

    def left(self, client: Client) -> None:
        """It is gone."""
        self.hall.clients.pop(client, None)
        self._addresses.leave(client.address)
        if client.seat:
            self._tokens.leave(client.seat)
        client.peer.gone()
        del self.desk.clients[client.peer]
        ended = client.peer.ended
        self.gateway.departed.client_left(ended.reason if ended else "gone", client.bytes_out, client.messages_out)
        if not self.hall.clients:
            self._empty.set()

    def seated(self, client: Client, claims: Claims) -> bool:
        """Count it as a connection of this token's name, once; False where there are too many."""
        if not client.seat:
            if not self._tokens.enter(claims.name):
                return False
            client.seat = claims.name
        return True

    def claims(self, token: str, now: int) -> Claims:
        """What a token grants. Raises Refused."""
        if self.keyring is None:
            raise Refused("bad_token", "this gateway asks for no token")
        claims = self.keyring.claims(token, now)
        if claims.id in self.revoked.ids:
            raise Refused("revoked", f"the token of {claims.name} was revoked")
        return claims
