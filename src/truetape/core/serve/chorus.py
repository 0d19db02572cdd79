"""Clients that read the same and have all of it share one box: an event is put once and read once for a thousand of them.

    up to date ── join ─► member of a chorus ── stuck, closed, one topic more or less ── part ─► on its own again

A member's own box stays what its client subscribed: its topics and its ledger. Only, nothing is put into it; the leader's box is filled,
and `fold` brings what became of that into the member's counters. Whoever parts takes along what lies in the leader's box at that moment,
so that nothing is lost or doubled whenever it happens. Next door: `box.py`; `io.serve.hall` writes what the leader's box gives to all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from truetape.core.route.mailbox import Item, Lag
from truetape.core.route.router import Router, Topic
from truetape.core.serve.box import ClientBox

Seat = TypeVar("Seat")


class Chorus(Generic[Seat]):
    """One leader and its members, each with whatever its driver wants to know of it. Empty, it is over, and `over` is called."""

    __slots__ = ("id", "leader", "members", "over", "router")

    def __init__(self, router: Router, like: ClientBox, id_: int) -> None:
        self.id = id_  # what all of them call this subscription
        self.router = router
        self.over: Callable[[], object] = lambda: None
        self.members: dict[ClientBox, Seat] = {}
        leader = ClientBox(f"all like {like.name}", like.mode, like.asked, like.depth, like.histories, like.cuts)
        leader.signature = leader.kin = like.kin
        self.leader = leader
        router.lead(leader, like)

    def join(self, box: ClientBox, seat: Seat) -> bool:
        """From now on this box is filled by the leader's. False where it is not up to date, or not alike."""
        leader = self.leader
        if not (idle(box) and idle(leader) and box.kin == leader.kin and box.topics.keys() == leader.topics.keys()):
            return False
        self.router.rest(box)
        self.members[box] = seat
        box.chorus = self
        box.seen = leader.counters()
        return True

    def part(self, box: ClientBox) -> None:
        """On its own again, with a copy of what lies in the leader's box."""
        box.fold()
        box.chorus = None
        del self.members[box]
        self._copy(box)
        if box.closed_reason is None:
            self.router.resume(box)
        if not self.members:
            self.end()

    def end(self) -> None:
        """Nobody sings: the leader is filled no more."""
        self.router.retire(self.leader)
        self.over()
        self.over = _nothing  # it may know us: a cycle is found late where the collector is kept quiet

    def widen(self, topic: Topic) -> None:
        """A topic that is new to all of them, and to the world: the leader is filled with it, too."""
        if topic.key not in self.leader.topics:
            topic.attach(self.leader)

    def _copy(self, box: ClientBox) -> None:
        leader = self.leader
        copies: dict[int, Lag] = {}

        def own(item: Item) -> Item:
            if type(item) is not Lag:
                return item
            if id(item) not in copies:
                copies[id(item)] = item.copy()
            return copies[id(item)]

        box.front.extend(map(own, leader.front))
        box.inbox.extend(map(own, leader.inbox))
        box.lags = {key: own(lag) for key, lag in leader.lags.items()}  # type: ignore[misc]  # a Lag's own is a Lag
        box.broken = {key: own(lag) for key, lag in leader.broken.items()}  # type: ignore[misc]
        box.hand, box.others, box.settled = leader.hand, leader.others, leader.settled
        box.eager, box.closed_reason, box.waiting = leader.eager, leader.closed_reason, True


def _nothing() -> None:
    """It is over already."""


def idle(box: ClientBox) -> bool:
    """Whether nothing at all lies here, or is to be judged or told."""
    return (
        box.drained and not box.eager and not box.others and not box.broken and not box.lags
        and box.closed_reason is None and not box.mode.whole
    )  # fmt: skip
