"""The client's half of the protocol against the gateway's half, without sockets: literal clocks, connections that end where the test says."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from truetape.core.route.modes import conflate, drop_newest, drop_oldest
from truetape.core.route.router import Router
from truetape.core.serve.box import ClientBox
from truetape.core.serve.claims import EVERYONE, Claims
from truetape.core.serve.errand import Dial, Drop, Ended, Give, Say
from truetape.core.serve.frames import Frames, encode
from truetape.core.serve.history import Histories
from truetape.core.serve.intake import Intake
from truetape.core.serve.peer import Peer, Refused, Rules
from truetape.core.serve.reader import SECOND, Reader, Timing, key_of
from truetape.model.event import Book, Gap, Lagged, Market, Status, Trade
from truetape.model.wire import Bounds, Bye, Data, Have, Hello, Resume, Subscribe, Subscribed, TopicAt

T = 1_000 * SECOND
RECALLED = 99
"""The depth of a whole book that was made for one client."""


def trade(number: int, symbol: str = "A") -> Trade:
    return Trade("v", symbol, symbol, T, T, 1.0 + number, 1.0, id=str(number))


def book(number: int, snapshot: bool = False, levels: int = 1) -> Book:
    return Book("v", "A", "A", T, T, [(float(number), 1.0)] * levels, [], snapshot=snapshot, seq=number)


def recalled(symbol: str, last: dict[str, int]) -> Callable[[int], Book]:
    return lambda _depth: Book("v", symbol, symbol, T, T, [], [], snapshot=True, seq=last[symbol], depth=RECALLED)


class Desk:
    """A gateway's inside: a router, histories, and no config."""

    def __init__(self, size: int = 100, epoch: str = "e1") -> None:
        self.router = Router()
        self.histories = Histories(self.router, size, SECOND)
        self.frames = Frames()
        self.rules = Rules(version="0", epoch=epoch, tokens=False)

    def subscribe(self, peer: Peer, asked: Subscribe, now: int) -> ClientBox:
        mode = {"conflate": conflate(), "drop_newest": drop_newest}.get(asked.mode, drop_oldest)
        box = ClientBox("c", mode, asked.bound, asked.depth, self.histories, self.frames.cuts)
        if asked.resume is not None:
            box.beginning = asked.resume.epoch == self.rules.epoch
            box.resume = {key_of(topic): at if box.beginning else -1 for topic, at in asked.resume.offsets.items()}
            box.whole = dict.fromkeys(map(key_of, asked.resume.whole))
        self.router.subscribe(box, [(channel, "v", "*") for channel in asked.channels])
        return box

    def unsubscribe(self, peer: Peer, box: ClientBox, reason: str) -> None:
        self.router.close(box, reason)

    def admit(self, peer: Peer, token: str, now: int) -> Claims:
        raise Refused("bad_token", "none here")

    def publish(self, event: Market, kind: str = "trade") -> None:
        self.router.publish(self.router.topic(kind, "v", event.symbol), event)


class Wire:
    """One connection between a reader and a desk; `got` is what the program would read."""

    def __init__(self, desk: Desk, reader: Reader, got: list[Market]) -> None:
        self.desk, self.reader, self.got = desk, reader, got
        self.peer = Peer(desk, desk.rules, "json", T, EVERYONE)
        reader.opened("", T)
        self.down(self.peer.hello(T))

    def down(self, messages: Any) -> None:
        for message in messages:
            self.up(self.reader.message(encode(message, "json"), T))

    def up(self, effects: Any) -> None:
        for effect in effects:
            if isinstance(effect, Give):
                self.got += effect.events
            elif isinstance(effect, Say):
                self.down(self.peer.message(msgspec.json.encode(effect.message), T))

    def turn(self, most: int = 256) -> None:
        """What the gateway's loop does."""
        for id_, box in list(self.peer.boxes.items()):
            while events := box.take(most, T):
                self.up(self.reader.message(self.desk.frames.data(id_, box, events, "json"), T))

    def cut(self) -> None:
        self.peer.gone()
        self.reader.lost(1006, "cut", T)
        due = self.reader.deadline
        assert due is not None
        assert self.reader.tick(due) == [Dial()]


def started(channels: list[str], mode: Any = "drop_oldest") -> Reader:
    reader = Reader("json", Timing(), Random(1))
    assert reader.start(T) == [Dial()]
    reader.subscribe(Subscribe(0, ["v:*"], channels, mode), T)
    return reader


def ids(got: list[Market]) -> list[str]:
    return [
        event.id if isinstance(event, Trade) else f"lost {event.dropped}" if isinstance(event, Lagged) else "?"
        for event in got
    ]


def test_what_is_missed_is_had_in_order() -> None:
    desk, got = Desk(), []
    reader = started(["trade"])
    desk.publish(trade(0))
    wire = Wire(desk, reader, got)
    for number in range(1, 4):
        desk.publish(trade(number))
    wire.turn()
    wire.cut()
    for number in range(4, 9):
        desk.publish(trade(number))
    wire = Wire(desk, reader, got)
    desk.publish(trade(9))
    wire.turn()
    assert ids(got) == [str(number) for number in range(1, 10)]
    assert (reader.recovered, reader.unrecovered, reader.reconnects) == (1, 0, 1)


def test_a_loss_is_told_once_even_when_the_connection_breaks_right_after_the_answer() -> None:
    desk, got = Desk(size=2), []
    reader = started(["trade"])
    desk.publish(trade(0))
    Wire(desk, reader, got).cut()
    for number in range(1, 6):
        desk.publish(trade(number))
    Wire(desk, reader, got).cut()  # before any turn: the gateway's own Lagged never left
    desk.publish(trade(6))
    wire = Wire(desk, reader, got)
    desk.publish(trade(7))
    wire.turn()
    assert ids(got) == ["lost 5", "6", "7"]


def test_another_epoch_is_a_loss_of_unknown_size() -> None:
    got: list[Market] = []
    reader = started(["trade"])
    one = Desk()
    one.publish(trade(1))
    Wire(one, reader, got).cut()
    other = Desk(epoch="e2")
    other.publish(trade(1))
    wire = Wire(other, reader, got)
    other.publish(trade(2))
    wire.turn()
    assert ids(got) == ["lost -1", "2"]
    assert reader.offsets == {"trade:v:A": 2}


def test_a_topic_that_appeared_meanwhile_comes_from_its_beginning_or_is_told() -> None:
    desk, got = Desk(), []
    reader = started(["trade"])
    desk.publish(trade(1))
    Wire(desk, reader, got).cut()
    for number in range(3):
        desk.publish(trade(number, "NEW"))  # nobody kept a history of it
    wire = Wire(desk, reader, got)
    desk.publish(trade(3, "NEW"))
    wire.turn()
    assert ids(got) == ["lost 3", "3"]


def test_a_topic_that_appears_while_connected_is_resumed_too() -> None:
    desk, got = Desk(), []
    reader = started(["trade"])
    wire = Wire(desk, reader, got)
    desk.publish(trade(0, "NEW"))
    wire.turn()
    wire.cut()
    desk.publish(trade(1, "NEW"))
    wire = Wire(desk, reader, got)
    wire.turn()
    assert ids(got) == ["0", "1"]


def test_a_history_keeps_books_as_deep_as_clients_asked_when_nobody_listens() -> None:
    desk = Desk()
    reader = Reader("json", Timing(), Random(1))
    reader.start(T)
    reader.subscribe(Subscribe(0, ["v:*"], ["book"], depth=10), T)
    got: list[Market] = []
    topic = desk.router.topic("book", "v", "A")
    Wire(desk, reader, got).cut()
    assert topic.depth == 10


def test_a_book_without_a_beginning_is_asked_for_whole() -> None:
    desk, got = Desk(), []
    topic = desk.router.topic("book_delta", "v", "A")
    reader = started(["book_delta"])
    desk.publish(book(1), "book_delta")
    wire = Wire(desk, reader, got)  # not LIVE: nothing to begin with
    wire.cut()
    topic.state = lambda _depth: book(2, snapshot=True)
    wire = Wire(desk, reader, got)
    desk.publish(book(3), "book_delta")
    wire.turn()
    assert [event.seq for event in got if isinstance(event, Book)] == [2, 3]
    assert got[0].snapshot  # type: ignore[union-attr]
    assert reader.whole == {}


def test_a_notice_is_told_once_for_all_topics() -> None:
    desk, got = Desk(), []
    reader = started(["trade"])
    for symbol in "ABC":
        desk.publish(trade(0, symbol))
    Wire(desk, reader, got).cut()
    desk.router.notify(Gap("v", "", "", T, "", T, T, "connection_lost"))
    wire = Wire(desk, reader, got)
    wire.turn()
    assert sum(isinstance(event, Gap) for event in got) == 1


@pytest.mark.parametrize("most", [1, 3, 256])
@pytest.mark.parametrize("mode", ["drop_oldest", "conflate"])
def test_wherever_it_breaks_volumes_add_up(mode: Any, most: int) -> None:
    """Trades are merged by a conflating box: the sum of sizes tells whether one was lost or came twice."""
    for seed in range(60):
        luck = Random(seed)
        desk, got = Desk(size=1000), []
        reader = started(["trade"], mode)
        for symbol in "AB":
            desk.publish(trade(0, symbol))
        wire = Wire(desk, reader, got)
        count = 0
        for _ in range(40):
            for _ in range(luck.randrange(4)):
                desk.publish(trade(count, luck.choice("AB")))
                count += 1
            if luck.random() < 0.3:
                desk.router.notify(Gap("v", luck.choice("AB"), "", T, "trade", T, T, "test"))
            if luck.random() < 0.5:
                wire.turn(most)
            if luck.random() < 0.2:
                wire.cut()
                wire = Wire(desk, reader, got)
        wire.turn()
        assert sum(event.size for event in got if isinstance(event, Trade)) == count, f"seed={seed}"


@pytest.mark.parametrize("size", [4, 1000])
@pytest.mark.parametrize("mode", ["drop_oldest", "drop_newest"])
@pytest.mark.parametrize("channel", ["trade", "book_delta"])
def test_wherever_it_breaks_a_slow_client_has_each_event_or_its_loss(mode: Any, channel: str, size: int) -> None:
    """Small boxes that overflow, taken from seldom and in parts, cut at any place: received and told as lost is what was published."""
    for seed in range(150):
        luck = Random(seed)
        desk, got = Desk(size=size), []
        last = {"A": 0, "B": 0}
        reader = Reader("json", Timing(), Random(1))
        reader.start(T)
        reader.subscribe(Subscribe(0, ["v:*"], [channel], mode, bound=5), T)

        def publish(symbol: str, desk: Desk = desk, last: dict[str, int] = last) -> None:
            last[symbol] += 1
            event: Market = trade(last[symbol], symbol)
            if channel == "book_delta":
                event = Book("v", symbol, symbol, T, T, [], [], snapshot=last[symbol] == 1, seq=last[symbol])
            desk.publish(event, channel)

        for symbol in last:
            if channel == "book_delta":
                topic = desk.router.topic(channel, "v", symbol)
                topic.state = recalled(symbol, last)
        wire = Wire(desk, reader, got)
        for _ in range(60):
            for _ in range(luck.randrange(5)):
                publish(luck.choice("AB"))
            if luck.random() < 0.3:
                for id_, box in list(wire.peer.boxes.items()):  # one message only
                    if events := box.take(luck.randrange(1, 6), T):
                        wire.up(reader.message(desk.frames.data(id_, box, events, "json"), T))
            if luck.random() < 0.1:
                wire.cut()
                wire = Wire(desk, reader, got)
        wire.turn()
        for symbol, count in last.items():
            mine = [event for event in got if getattr(event, "symbol", "") == symbol]
            lost = sum(event.dropped for event in mine if isinstance(event, Lagged))
            had = sum(
                isinstance(event, Trade) or (isinstance(event, Book) and event.depth != RECALLED) for event in mine
            )
            assert had + lost == count, f"seed={seed} {symbol}"
            assert reader.offsets.get(f"{channel}:v:{symbol}", 0) == count, f"seed={seed} {symbol}"


def test_what_is_too_long_for_one_message_goes_in_parts() -> None:
    reader = started(["trade"])
    desk, got = Desk(), []
    symbols = [f"SYMBOL-{number:05}" for number in range(4000)]
    for symbol in symbols:
        desk.publish(trade(0, symbol))
    Wire(desk, reader, got).cut()
    for symbol in symbols:
        desk.publish(trade(1, symbol))
    said: list[Any] = []
    reader.opened("", T)
    peer = Peer(desk, desk.rules, "json", T, EVERYONE)
    for effect in reader.message(encode(peer.hello(T)[0], "json"), T):
        assert isinstance(effect, Say)
        said.append(effect.message)
        assert len(msgspec.json.encode(effect.message)) <= desk.rules.message_bytes
    assert len([message for message in said if isinstance(message, Have)]) >= 2
    answers = [answer for message in said for answer in peer.message(msgspec.json.encode(message), T)]
    (subscribed,) = answers
    assert all(row.recovered for row in subscribed.topics)  # type: ignore[union-attr]
    assert len(subscribed.topics) == 4000  # type: ignore[union-attr]


def test_offsets_that_are_announced_have_a_bound() -> None:
    desk = Desk()
    peer = Peer(desk, Rules(version="0", epoch="e", tokens=False, messages_per_s=0), "json", T, EVERYONE)
    part = {f"trade:v:{number}": 1 for number in range(1000)}
    answers = []
    for id_ in range(60):
        answers += peer.message(msgspec.json.encode(Have(id_, Resume("e", part))), T)
    assert [answer.reason for answer in answers] == ["too_many"] * 10  # type: ignore[union-attr]


@pytest.mark.parametrize("code", [4500, 4501, 4504, 4999, 1008, 1009])
def test_some_codes_are_the_end(code: int) -> None:
    reader = started(["trade"])
    reader.opened("", T)
    (drop, ended) = reader.lost(code, "no", T)
    assert isinstance(drop, Drop)
    assert isinstance(ended, Ended)
    assert reader.deadline is None


def test_a_bye_says_when_to_come_back() -> None:
    reader = started(["trade"])
    reader.opened("", T)
    reader.message(encode(Bye(4000, "draining", "the gateway ends", 3.0), "json"), T)
    assert reader.lost(4000, "", T) == []
    due = reader.deadline
    assert due is not None
    assert 3 * SECOND <= due - T <= 4 * SECOND
    assert reader.tick(due - 1) == []
    assert reader.tick(due) == [Dial()]


def test_a_silent_gateway_is_asked_and_given_up() -> None:
    desk, got = Desk(), []
    reader = started(["trade"])
    Wire(desk, reader, got)
    (ping,) = reader.tick(T + 5 * SECOND)
    assert isinstance(ping, Say)
    assert reader.tick(T + 9 * SECOND) == []
    assert isinstance(reader.tick(T + 10 * SECOND)[0], Drop)
    assert reader.state == "waiting"


def test_a_refused_token_is_tried_again_only_where_it_has_changed() -> None:
    reader = Reader("json", Timing(), Random(1), renewable=True)
    reader.start(T)
    reader.opened("old", T)
    reader.message(encode(Bye(4502, "expired", "the token has expired"), "json"), T)
    assert reader.lost(4502, "", T) == []
    assert reader.token_for_dial("new") == []
    end = reader.token_for_dial("old")[1]
    assert isinstance(end, Ended)
    assert (end.code, end.reason) == (4502, "expired"), "what the gateway said, not only that it refused"
    assert "old" not in str(reader.end)


def test_a_message_that_is_none_ends_the_connection_only() -> None:
    reader = started(["trade"])
    reader.opened("", T)
    assert isinstance(reader.message(b"\xff{", T)[0], Drop)
    assert reader.state == "waiting"


def test_a_gateway_of_another_protocol_is_refused() -> None:
    reader = started(["trade"])
    reader.opened("", T)
    bounds = Desk().rules
    hello = Hello("truetape.v9", "9", "e", T, "none", 5.0, Peer(Desk(), bounds, "json", T).hello(T)[0].bounds)  # type: ignore[union-attr]
    assert "truetape.v1" in reader.message(encode(hello, "json"), T)[1].text  # type: ignore[union-attr]


def test_an_intake_is_dark_after_its_own_loss_until_a_whole_book() -> None:
    intake = Intake("x", drop_oldest, bound=3)
    key = ("book_delta", "v", "A")
    intake.stand([key])
    intake.put([book(0, snapshot=True), *(book(number) for number in range(1, 8))], T)
    (told,) = intake.take(10, T)
    assert isinstance(told, Lagged)
    assert told.dropped == 8
    assert intake.broken() == [key]
    intake.put([book(8), book(9, snapshot=True), book(10)], T)
    assert [getattr(event, "seq", None) for event in intake.take(10, T)] == [None, 9, 10]
    assert intake.broken() == []
    assert intake.ledger.balanced


def refused(symbol: str, channel: str, state: str = "CLOSED", reason: str = "unknown_symbol: no such pair") -> Status:
    return Status("v", symbol, symbol, T, channel, state, reason, since=T)


def asking(symbols: list[str], channels: list[str]) -> Reader:
    """A reader whose gateway has answered, with a topic for each."""
    reader = Reader("json", Timing(), Random(1))
    reader.start(T)
    reader.subscribe(Subscribe(0, symbols, channels), T)
    reader.opened("", T)
    reader.message(encode(Hello("truetape.v1", "0", "e1", T, "none", 5.0, Bounds(0, 0, 0, 0, 0)), "json"), T)
    topics = [TopicAt(f"{channel.partition('.')[0]}:{name}", 0) for name in symbols for channel in channels]
    reader.message(encode(Subscribed(reader.id, topics), "json"), T)
    return reader


def told(reader: Reader, *events: Market, offsets: dict[str, int] | None = None) -> Any:
    return reader.message(encode(Data(reader.id, list(events), offsets or {}), "json"), T)


def test_it_ends_when_every_subscription_was_refused_for_its_symbol() -> None:
    reader = asking(["v:A", "v:B"], ["trade", "book_delta", "bar.1m"])
    every = [refused(symbol, channel) for symbol in "AB" for channel in ("trade", "book", "bar.1m")]
    for one in every[:-1]:
        assert told(reader, one) == [Give([one])]
    effects = told(reader, every[-1])
    assert effects[:2] == [Give([every[-1]]), Drop()], "the notice is the program's first"
    end = effects[2]
    assert isinstance(end, Ended)
    assert end.reason == "unknown_symbol"
    assert "v:A, v:B (no such pair); `truetape symbols v`" in end.text


def test_it_goes_on_while_anything_can_come() -> None:
    """A pattern finds other symbols later; notices of what others asked for are not ours; a symbol may be listed again."""
    stars = asking(["v:*"], ["trade"])
    assert told(stars, refused("A", "trade")) == [Give([refused("A", "trade")])]
    others = asking(["v:A"], ["trade"])
    told(others, refused("A", "ticker"))
    told(others, refused("A", "trade", reason="bad_request: depth"))
    told(others, refused("A", "trade", "STALE"))
    assert others.end is None
    again = asking(["v:A"], ["trade", "book"])
    told(again, refused("A", "trade"), refused("A", "trade", "SYNCING"))
    told(again, refused("A", "book"))
    told(again, refused("A", "trade", "LIVE"), trade(1), offsets={"trade:v:A": 1})
    assert again.end is None
