"""Boxes that are filled as one beside boxes that are filled each by itself: their readers get the same, and their ledgers agree."""

from __future__ import annotations

import gc
import random
from functools import partial

import pytest

from truetape.core.route.mailbox import Mode
from truetape.core.route.modes import drop_newest, drop_oldest
from truetape.core.route.router import Router, Topic
from truetape.core.serve.box import ClientBox
from truetape.core.serve.chorus import Chorus, idle
from truetape.core.serve.history import Histories
from truetape.model.event import Book, Gap, Market, Status, Trade

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD")
PATTERNS = [(kind, "kraken", "*") for kind in ("trade", "book_delta")]
EVERYTHING = 1 << 30


class Reader:
    """A box that may sing in the chorus, and its twin that never does; both are read at the same moments."""

    def __init__(self, stand: Stand, number: int) -> None:
        self.boxes = [stand.box(f"{name} {number}") for name in ("member", "twin")]
        self.got: list[list[Market]] = [[], []]
        self.boxes[0].kin = 7
        self.stuck = False

    def same(self) -> None:
        assert self.got[0] == self.got[1]
        self.got = [[], []]
        ledgers = [box.ledger() for box in self.boxes]
        assert ledgers[0] == ledgers[1]
        assert ledgers[0].balanced


class Stand:
    """A router, readers, a chorus where there is one."""

    def __init__(self, seed: int, mode: Mode, history: int = 50) -> None:
        self.rng = random.Random(seed)
        self.mode, self.bound = mode, self.rng.choice((1, 3, 20))
        self.router = Router()
        self.histories = Histories(self.router, history, 10**18)
        self.chorus: Chorus[Reader] | None = None
        self.overs = self.joins = self.parts = 0
        self.number = 0
        self.live: dict[str, bool] = {}
        self.seq: dict[str, int] = {}
        self.readers: list[Reader] = []

    def box(self, name: str) -> ClientBox:
        box = ClientBox(name, self.mode, self.bound, 0, self.histories, {})
        self.router.subscribe(box, PATTERNS)
        return box

    # -- what happens

    def publish(self) -> None:
        symbol = self.rng.choice(SYMBOLS[: 1 + min(3, self.number // 30)])  # new ones appear while it goes on
        self.number += 1
        if self.rng.random() < 0.5:
            event: Market = Trade("kraken", symbol, symbol, self.number, self.number, 1.0, 1.0, "buy", str(self.number))
            self.router.publish(self.router.topic("trade", "kraken", symbol), event)
            return
        topic = self.router.topic("book_delta", "kraken", symbol)
        if topic.state is None:
            topic.state = lambda _depth: self.whole(symbol) if self.live.get(symbol, True) else None
        self.seq[symbol] = self.seq.get(symbol, 0) + 1
        if self.rng.random() < 0.1:
            self.live[symbol] = not self.live.get(symbol, True)
        if self.rng.random() < 0.1:
            self.live[symbol] = True
            self.router.publish(topic, self.whole(symbol))
        elif self.live.get(symbol, True):
            self.router.publish(topic, Book("kraken", symbol, symbol, 0, 0, [(1.0, 2.0)], [], seq=self.seq[symbol]))

    def whole(self, symbol: str) -> Book:
        seq = self.seq.get(symbol, 0)
        return Book("kraken", symbol, symbol, 0, 0, [(float(seq), 1.0)], [], True, seq=seq)

    def notify(self) -> None:
        symbol = self.rng.choice((*SYMBOLS, ""))
        if self.rng.random() < 0.5 and symbol:
            self.router.notify(Gap("kraken", symbol, symbol, self.number, "trade", 0, self.number, "stale"))
        else:
            channel = "trade" if symbol else ""
            self.router.notify(
                Status("kraken" if self.rng.random() < 0.8 else "", symbol, symbol, 0, channel, "LIVE", "")
            )

    def turn(self) -> None:
        """Who is not stuck reads everything; who is up to date sings along."""
        self.router.flush(0)
        if self.chorus is not None:
            events = self.drain(self.chorus.leader)
            for reader in self.chorus.members.values():
                reader.got[0] += events
                reader.got[1] += self.drain(reader.boxes[1])
        for reader in self.readers:
            if not reader.stuck and reader.boxes[0].chorus is None:
                for box, got in zip(reader.boxes, reader.got, strict=True):
                    got += self.drain(box)
                self.gather(reader)

    @staticmethod
    def drain(box: ClientBox) -> list[Market]:
        out: list[Market] = []
        while events := box.take(EVERYTHING, 0):
            out += events
        return out

    def gather(self, reader: Reader) -> None:
        box = reader.boxes[0]
        if self.rng.random() < 0.3 or not idle(box):
            return
        if self.chorus is None:
            self.chorus = Chorus(self.router, box, 1)
            self.chorus.over = self.over
        self.joins += self.chorus.join(box, reader)
        if not self.chorus.members:
            self.chorus.end()

    def over(self) -> None:
        self.chorus = None
        self.overs += 1

    def stick(self, reader: Reader) -> None:
        """Its pipe is full: it is on its own, and reads nothing."""
        box = reader.boxes[0]
        if box.chorus is not None:
            box.chorus.part(box)
            self.parts += 1
        reader.stuck = True

    def leave(self, reader: Reader) -> None:
        for box, got in zip(reader.boxes, reader.got, strict=True):
            self.router.close(box, "gone")
            got += self.drain(box)
        reader.same()
        self.readers.remove(reader)


@pytest.mark.parametrize("mode", [drop_oldest, drop_newest], ids=lambda mode: mode.name)
@pytest.mark.parametrize("seed", range(60))
def test_who_sings_along_gets_what_a_box_of_its_own_would_give(seed: int, mode: Mode) -> None:
    stand = Stand(seed, mode)
    rng = stand.rng
    for step in range(400):
        chance = rng.random()
        if chance < 0.5:
            stand.publish()
        elif chance < 0.6:
            stand.notify()
        elif chance < 0.85:
            stand.turn()
        elif chance < 0.9 and len(stand.readers) < 6:
            stand.readers.append(Reader(stand, step))
        elif chance < 0.96 and stand.readers:
            reader = rng.choice(stand.readers)
            if reader.stuck:
                reader.stuck = False
            else:
                stand.stick(reader)
        elif chance < 0.975 and stand.readers:
            stand.leave(rng.choice(stand.readers))
        if rng.random() < 0.1:  # to look at a ledger settles a box, and brings a member's counters up to date
            for reader in stand.readers:
                reader.same()
    for reader in stand.readers:
        reader.same()
    assert stand.joins, "the seed never sang"


def test_while_they_sing_an_event_is_put_once_and_when_all_have_left_nobody_is_asked() -> None:
    stand = Stand(1, drop_oldest, history=0)
    stand.readers = [Reader(stand, number) for number in range(5)]
    topic: Topic = stand.router.topic("trade", "kraken", "BTC-USD")
    stand.turn()
    chorus = Chorus(stand.router, stand.readers[0].boxes[0], 1)
    ended: list[bool] = []
    chorus.over = lambda: ended.append(True)
    for reader in stand.readers:
        if reader.boxes[0].chorus is None:
            assert chorus.join(reader.boxes[0], reader)
    assert [box for box in topic.boxes if box in [reader.boxes[0] for reader in stand.readers]] == []
    assert topic.boxes.count(chorus.leader) == 1
    wanted = stand.router.wanted()
    assert wanted[("trade", "kraken", "*")] == 10, "a leader is nobody's wish"
    for reader in list(stand.readers):
        stand.leave(reader)
    assert ended == [True]
    assert topic.boxes == topic.puts == []
    assert stand.router.wanted() == {}
    assert stand.router._listeners == {}


def test_who_is_not_up_to_date_or_not_alike_stays_alone() -> None:
    stand = Stand(2, drop_oldest)
    first, second, other = (Reader(stand, number).boxes[0] for number in range(3))
    stand.router.topic("trade", "kraken", "BTC-USD")
    chorus: Chorus[None] = Chorus(stand.router, first, 1)
    assert chorus.join(first, None)
    second.notice(Gap("kraken", "BTC-USD", "BTC-USD", 1, "trade", 0, 1, "stale"))
    assert not chorus.join(second, None)
    other.kin = 8
    assert not chorus.join(other, None)


def test_a_chorus_that_nobody_could_join_ends_and_leaves_no_leader() -> None:
    stand = Stand(4, drop_oldest, history=0)
    box = Reader(stand, 1).boxes[0]
    topic = stand.router.topic("trade", "kraken", "BTC-USD")
    before = list(topic.boxes)
    chorus: Chorus[None] = Chorus(stand.router, box, 1)
    ended: list[bool] = []
    chorus.over = lambda: ended.append(True)
    box.notice(Gap("kraken", "BTC-USD", "BTC-USD", 1, "trade", 0, 1, "stale"))
    assert not chorus.join(box, None)
    chorus.end()
    assert (topic.boxes, ended) == (before, [True])


def test_a_topic_that_is_new_to_the_world_is_sung_along_and_a_chorus_that_is_over_leaves_nothing_behind() -> None:
    stand = Stand(3, drop_newest, history=0)
    stand.bound = 5
    stand.readers = [Reader(stand, number) for number in range(3)]
    stand.router.topic("trade", "kraken", "BTC-USD")
    members = [reader.boxes[0] for reader in stand.readers]
    members[0].bound += 100  # as a resumption widens it
    chorus: Chorus[Reader] = Chorus(stand.router, members[0], 1)
    chorus.over = partial(print, chorus)  # who is told usually knows the chorus
    for reader in stand.readers:
        assert chorus.join(reader.boxes[0], reader)
    assert chorus.leader.bound == 5
    topic = stand.router.topic("trade", "kraken", "ETH-USD")
    assert all(box.chorus is chorus and topic.key in box.topics for box in members)
    assert [box for box in topic.boxes if box in (chorus.leader, *members)] == [chorus.leader]
    leader = id(chorus.leader)
    gc.disable()
    try:
        for reader in list(stand.readers):
            stand.leave(reader)
        del chorus, reader
        members.clear()
        stand.router.flush(0)
        there = [id(one) for one in gc.get_objects() if type(one) is ClientBox]
        assert leader not in there, "nothing waits for the collector"
    finally:
        gc.enable()
