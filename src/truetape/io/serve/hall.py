"""All downstream clients of a process, whatever carries them: whose turn it is, who has been silent or stuck for too long.

Boxes that have something are collected while a read of a venue's socket is judged; then each client gets one write. `window_s` waits a
little for more (fewer and larger writes); without it the write leaves in the same turn of the loop. Clients that are alike are written to as
one (`core.serve.chorus`). Next door: `client.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from truetape.core.route.mailbox import Mailbox
from truetape.core.route.router import Router
from truetape.core.serve.box import ClientBox
from truetape.core.serve.chorus import Chorus, idle
from truetape.core.serve.frames import Frames
from truetape.io.clock import now as clock
from truetape.io.serve.client import TURN_BYTES, Client

BEAT_S = 0.25
APART_NS = 10_000_000_000
"""Who was stuck stays apart from its like for so long: to part and to join costs a look at each topic."""
LOOK_AT = 500
"""So many clients at a time: ten thousand at once would hold the others' messages for 13 ms."""
BREATH_S = 0.01
"""Between two such looks."""


class Turn(NamedTuple):
    """One turn that was sampled: ns, clients whose turn it was, messages and bytes that they were sent."""

    began: int
    ended: int
    clients: int
    messages: int
    size: int


GATHER_MAX = 5_000
"""So many topics of clients that join their like in one turn, about: some 3 ms. The others join later."""


class Stage(NamedTuple):
    """What choirs need: the router that fills boxes, and whom the driver wakes for which box."""

    router: Router
    wakers: dict[Mailbox, Callable[[], None]]


class Hall:
    """Clients and their turns. `gone` is told of each that left."""

    def __init__(self, frames: Frames, window_s: float, fail: Callable[[Exception], None]) -> None:
        self.frames = frames
        self.clients: dict[Client, None] = {}
        self.window_s = window_s
        self.turns = 0
        self._fail = fail
        self._ready: dict[Client, None] = {}
        self._called: dict[Chorus[Client], None] = {}
        self._choirs: dict[int, Chorus[Client]] = {}
        self._solo: dict[int, Client] = {}  # of each kind one who was up to date, alone
        self.stage: Stage | None = None
        self._room = GATHER_MAX
        self._soon: asyncio.Handle | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._round: list[Client] = []  # who is still to be looked at in this beat
        self.on_beat: Callable[[int], None] = lambda _now: None
        self._go: Callable[[], None] = self._turn  # what a turn is: `sample` puts another in its place

    def start(self) -> None:
        """Begin to watch."""
        self._pulse = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    @property
    def leaders(self) -> list[ClientBox]:
        """The boxes that are filled for several clients each."""
        return [chorus.leader for chorus in self._choirs.values()]

    def stop(self) -> None:
        """No more turns."""
        for timer in (self._pulse, self._soon):
            if timer is not None:
                timer.cancel()
        self._pulse = self._soon = None

    def sample(self, chosen: Callable[[], bool], told: Callable[[Turn], None]) -> None:
        """Tell of those turns that `chosen` picks. Without this, nothing is asked at a turn."""
        self._go = partial(self._sampled, chosen, told)

    def _sampled(self, chosen: Callable[[], bool], told: Callable[[Turn], None]) -> None:
        if not chosen():
            self._turn()
            return
        singing = (client for chorus in self._called for client in chorus.members.values())
        clients = list(dict.fromkeys(singing) | self._ready)
        messages, size = sum(client.messages_out for client in clients), sum(client.bytes_out for client in clients)
        began = clock()
        self._turn()
        ended = clock()
        messages = sum(client.messages_out for client in clients) - messages
        told(Turn(began, ended, len(clients), messages, sum(client.bytes_out for client in clients) - size))

    def waker(self, client: Client, id_: int) -> Callable[[], None]:
        """What the driver calls when this box has something."""
        return partial(self._wake, client, id_)

    def _wake(self, client: Client, id_: int) -> None:
        client.boxes_dirty[id_] = None
        self._ready[client] = None
        if self._soon is None:
            self._arm()

    def _call(self, chorus: Chorus[Client]) -> None:
        self._called[chorus] = None
        if self._soon is None:
            self._arm()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._soon = loop.call_later(self.window_s, self._go) if self.window_s else loop.call_soon(self._go)

    def ready(self, client: Client) -> None:
        """Its pipe has room again, or it has just subscribed."""
        if len(client.boxes) > 1:  # one write per turn: with a second subscription nobody sings along
            client.apart()
        client.boxes_dirty.update(dict.fromkeys(client.boxes))
        self._ready[client] = None
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._go)

    def _turn(self) -> None:
        self._soon = None
        called, self._called = self._called, {}
        ready, self._ready = self._ready, {}
        self.turns += 1
        self._room = GATHER_MAX
        self.frames.turn()
        now = clock()
        try:
            more = [chorus for chorus in called if self._sing(chorus, now)]
            again = [client for client in ready if client in self.clients and self._alone(client, now)]
        except Exception as error:  # noqa: BLE001  a bug: said once, by whoever runs the gateway
            self._fail(error)
            return
        if more or again:
            self._called.update(dict.fromkeys(more))
            self._ready.update(dict.fromkeys(again))
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_soon(self._go)

    @staticmethod
    def _sing(chorus: Chorus[Client], now: int) -> bool:
        """Read the leader's box and write that to all; True where there is more."""
        clients = list(chorus.members.values())
        if not clients:
            return False
        first = clients[0]
        out, _, more = first.read(chorus.leader, chorus.id, TURN_BYTES, now)
        if out:
            wire, count, stuck = first.pipe.frame(out), len(out), []
            size = len(wire)
            for client in clients:  # the hot path of a thousand clients: no calls but the pipe's own
                pipe = client.pipe
                pipe.write(wire)
                client.messages_out += count
                client.bytes_out += size
                if pipe.waiting() > client.high:
                    stuck.append(client)
            for client in stuck:
                chorus.part(client.boxes[chorus.id])
                client.full()
        return more

    def _alone(self, client: Client, now: int) -> bool:
        """The turn of one client, True where it needs another. Where it is up to date then, it joins its like."""
        if client.turn(now):
            return True
        if self.stage is not None and len(client.boxes) == 1 and not client.blocked_since and client.peer.ended is None:
            ((id_, box),) = client.boxes.items()
            if box.kin and box.chorus is None and self._room > 0 and now - client.stuck_at > APART_NS and idle(box):
                self._room -= 1 + len(box.topics)
                self._gather(client, box, id_, self.stage)
        return False

    def _gather(self, client: Client, box: ClientBox, id_: int, stage: Stage) -> None:
        """Into the chorus of its like; two who are alike begin one."""
        chorus = self._choirs.get(box.kin)
        if chorus is None:
            other = self._solo.get(box.kin)
            if other is None or other is client or other not in self.clients or not self._alike(other, box):
                self._solo[box.kin] = client
                return
            chorus = self._choirs[box.kin] = Chorus(stage.router, box, id_)
            stage.wakers[chorus.leader] = partial(self._call, chorus)
            chorus.over = partial(self._over, chorus, stage)
            del self._solo[box.kin]
            chorus.join(other.boxes[id_], other)
        if not chorus.join(box, client) and not chorus.members:
            chorus.end()  # a leader that nobody reads would be filled for ever

    def _over(self, chorus: Chorus[Client], stage: Stage) -> None:
        stage.wakers.pop(chorus.leader, None)
        del self._choirs[chorus.leader.kin]

    @staticmethod
    def _alike(other: Client, box: ClientBox) -> bool:
        """Whether another client that was up to date once still is, and has the same subscription alone."""
        boxes = list(other.boxes.values())
        return (
            len(boxes) == 1
            and boxes[0].kin == box.kin
            and idle(boxes[0])
            and not other.blocked_since
            and other.peer.ended is None
        )

    def _beat(self) -> None:
        now = clock()
        try:
            if not self._round:
                self._round = list(self.clients)
                self._solo = {
                    kin: one for kin, one in self._solo.items() if any(b.kin == kin for b in one.boxes.values())
                }
                self.on_beat(now)
            looked, self._round = self._round[:LOOK_AT], self._round[LOOK_AT:]
            for client in looked:
                if client in self.clients:
                    self._look(client, now)
        except Exception as error:  # noqa: BLE001  as above
            self._fail(error)
        self._pulse = asyncio.get_running_loop().call_later(BREATH_S if self._round else BEAT_S, self._beat)

    def _look(self, client: Client, now: int) -> None:
        peer = client.peer
        if not client.watch(now):
            client.cut(f"nothing was taken for {client.write_ns / 1e9:g} s", now)
            return
        if client.blocked_since:
            for id_, box in list(peer.boxes.items()):
                if box.closed_reason is not None:
                    client.say(peer.dropped(id_, box.closed_reason))
        if (due := peer.deadline) is not None and now >= due:
            client.say(peer.tick(now))
