"""What downstream clients subscribed: boxes in the router, wants at the venues, and what is kept for who was cut off.

    core.serve.Peer ─► Desk.subscribe ─► Router (a box), Wants (the venues)         box left ─► Linger (for a while) ─► Wants

Next door: `serve.py` admits clients and beats; `core.serve.peer` says what a client may ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from truetape.app.config import ConfigError
from truetape.app.linger import Linger
from truetape.app.wants import Asked
from truetape.core.route.mailbox import Key
from truetape.core.serve.box import ClientBox, mode_of
from truetape.core.serve.claims import Claims, allows
from truetape.core.serve.peer import Peer, Refused
from truetape.core.serve.reader import key_of
from truetape.io.clock import now as clock
from truetape.io.serve.client import Client
from truetape.model.wire import Subscribe

if TYPE_CHECKING:
    from truetape.app.serve import Service


class Desk:
    """See `core.serve.peer.Desk`. `clients` are those who stand, by their peers."""

    def __init__(self, service: Service, linger_s: float) -> None:
        self.linger = Linger(linger_s)
        self.clients: dict[Peer, Client] = {}
        self._service = service
        self._asked: dict[ClientBox, list[Asked]] = {}

    def admit(self, peer: Peer, token: str, now: int) -> Claims:
        """What a token grants this client, which from now on counts as one of its connections. Raises Refused."""
        claims = self._service.claims(token, now)
        if not self._service.seated(self.clients[peer], claims):
            raise Refused("policy", f"too many connections of {claims.name}")
        return claims

    def subscribe(self, peer: Peer, asked: Subscribe, now: int) -> ClientBox:
        """A box that is filled from now on. Raises Refused."""
        service, gateway = self._service, self._service.gateway
        try:
            found = gateway.wants.find(asked.symbols, asked.channels)
        except ConfigError as error:
            raise Refused("unknown", str(error)) from None
        claims = peer.claims
        assert claims is not None, "a peer without claims is never asked"
        for one in found:
            if not allows(claims.allow, one.pattern):
                kind, venue, symbol = one.pattern
                raise Refused("forbidden", f"the token of {claims.name} does not allow {venue}:{symbol}/{kind}")
        client = self.clients[peer]
        name = f"{claims.name}#{client.number}/{asked.id}"
        box = ClientBox(name, mode_of(asked), asked.bound, asked.depth, service.histories, service.frames.cuts)
        if (resume := asked.resume) is not None:
            box.beginning = resume.epoch == service.rules.epoch
            box.resume = {key_of(topic): at if box.beginning else -1 for topic, at in resume.offsets.items()}
            box.whole = dict.fromkeys(map(key_of, resume.whole))
        try:
            gateway.pump.router.subscribe(box, [one.pattern for one in found])
        except ValueError as error:
            raise Refused("bad_request", str(error)) from None
        if box.mode.name in ("drop_oldest", "drop_newest"):
            patterns = tuple(one.pattern for one in found)
            wire = client.address == "unix"
            box.kin = service.frames.signature(
                wire, peer.encoding, asked.id, asked.mode, asked.bound, asked.depth, patterns
            )
            box.signature = 0 if resume else box.kin
        self._asked[box] = found
        gateway.boxes[box] = found
        gateway.driver.wakers[box] = service.hall.waker(client, asked.id)
        gateway.wants.hold(box, found)
        gateway.wants.tell(box, found, now)
        peer.boxes[asked.id] = box  # before its turn is asked for
        service.hall.ready(client)
        return box

    @property
    def subscriptions(self) -> int:
        """How many there are, of all clients of our own protocol."""
        return len(self._asked)

    def unsubscribe(self, peer: Peer, box: ClientBox, reason: str) -> None:
        """End it."""
        found = self._asked.pop(box, None)
        if found is not None:
            gateway = self._service.gateway
            if reason != "unsubscribed" and not self._service.draining:
                self.linger.left(gateway.wants, found, clock())
            gateway.release(box, reason)

    def sweep(self, now: int) -> None:
        """On the service's beat: let go of histories that nobody reads, and of what nobody came back for."""
        used: dict[Key, None] = {key: None for box in self._asked for key in box.topics}
        self._service.histories.sweep(now, used)
        self.linger.sweep(self._service.gateway.wants, now)
