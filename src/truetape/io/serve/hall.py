"""All downstream clients of a process, whatever carries them: whose turn it is, who has been silent or stuck for too long.

Boxes that have something are collected while a read of a venue's socket is judged; then each client gets one write. `window_s` waits a
little for more (fewer and larger writes); without it the write leaves in the same turn of the loop. Next door: `client.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from truetape.core.serve.box import ClientBox
from truetape.core.serve.frames import Frames
from truetape.io.clock import now as clock
from truetape.io.serve.client import Client

BEAT_S = 0.25
Seat: TypeAlias = tuple[Client, ClientBox, int]
"""Who is woken for what: a client, its box, and the client's id of it."""
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


class Hall:
    """Clients and their turns. `gone` is told of each that left."""

    def __init__(self, frames: Frames, window_s: float, fail: Callable[[Exception], None]) -> None:
        self.frames = frames
        self.clients: dict[Client, None] = {}
        self.window_s = window_s
        self.turns = 0
        self._fail = fail
        self._ready: dict[Client, None] = {}
        self._woken: list[Seat] = []
        self._soon: asyncio.Handle | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._round: list[Client] = []  # who is still to be looked at in this beat
        self.on_beat: Callable[[int], None] = lambda _now: None
        self._go: Callable[[], None] = self._turn  # what a turn is: `sample` puts another in its place

    def start(self) -> None:
        """Begin to watch."""
        self._pulse = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

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
        clients = list(dict.fromkeys(client for client, _, _ in self._woken) | self._ready)
        messages, size = sum(client.messages_out for client in clients), sum(client.bytes_out for client in clients)
        began = clock()
        self._turn()
        ended = clock()
        messages = sum(client.messages_out for client in clients) - messages
        told(Turn(began, ended, len(clients), messages, sum(client.bytes_out for client in clients) - size))

    def waker(self, client: Client, box: ClientBox, id_: int) -> Callable[[], None]:
        """What the driver calls when this box has something."""
        return partial(self._wake, (client, box, id_))

    def _wake(self, seat: Seat) -> None:
        self._woken.append(seat)
        if self._soon is None:
            loop = asyncio.get_running_loop()
            self._soon = loop.call_later(self.window_s, self._go) if self.window_s else loop.call_soon(self._go)

    def ready(self, client: Client) -> None:
        """Its pipe has room again, or it has just subscribed."""
        client.boxes_dirty.update(dict.fromkeys(client.peer.boxes))
        self._ready[client] = None
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._go)

    def _turn(self) -> None:
        self._soon = None
        woken, self._woken = self._woken, []
        ready, self._ready = self._ready, {}
        self.turns += 1
        self.frames.turn()
        now = clock()
        try:
            again = self._along(woken, ready, now)
            again += [client for client in ready if client in self.clients and client.turn(now)]
        except Exception as error:  # noqa: BLE001  a bug: said once, by whoever runs the gateway
            self._fail(error)
            return
        if again:
            self._ready.update(dict.fromkeys(again))
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_soon(self._go)

    def _along(self, woken: list[Seat], ready: dict[Client, None], now: int) -> list[Client]:
        """Give whoever reads just what another reads the same bytes; the others become `ready`. Who comes first of its kind has its turn
        at once, so that the rest can go along. Returns those that have more."""
        lanes, again = self.frames.lanes, []
        for client, box, id_ in woken:
            lane = lanes.get(box.signature)
            if lane is not None and client.along(box, lane):
                continue
            client.boxes_dirty[id_] = None
            if lane is not None or not box.signature or len(client.boxes) != 1:
                ready[client] = None
            elif client.turn(now):
                again.append(client)
        return again

    def _beat(self) -> None:
        now = clock()
        try:
            if not self._round:
                self._round = list(self.clients)
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
