"""`Close.final`: nothing is heard any more of a connection whose feed went, whatever it was about to say."""

from __future__ import annotations

import asyncio

import msgspec

from tests.io.test_driver import WITHIN_S, driven, tcp, upgrade
from truetape.core.route.roster import Dropped
from truetape.model import record
from truetape.model.effect import Fetch

DROP = msgspec.json.encode(Dropped("kraken"))
ENDINGS = (record.OPENED, record.LOST, record.FETCHED)


async def test_a_connection_that_stands_says_goodbye_and_is_heard_no_more() -> None:
    heard, closed = bytearray(), asyncio.Event()
    late = asyncio.Event()

    async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        while data := await reader.read(1000):
            heard.extend(data)
            if 0x88 in heard and not late.is_set():
                writer.write(b"\x81\x02{}" + b"\x88\x02\x03\xe8")  # a frame that was on its way, and the answer
                late.set()
        closed.set()

    async with tcp(talkative) as url, driven(url, {"close_s": 0.4}) as rig:
        await rig.kept.until(lambda: rig.kept.of(record.OPENED))
        rig.driver.command(DROP)
        assert rig.pump.links == {}
        count = len(rig.kept.records)
        await asyncio.wait_for(late.wait(), WITHIN_S)
        await asyncio.wait_for(closed.wait(), WITHIN_S)
        assert [row for row in rig.kept.records[count:] if row[0] != record.TICK] == []
    assert rig.kept.of(record.LOST) == [], "a name that is free loses no connection"


async def test_a_dial_is_given_up_and_its_socket_closed() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        if await reader.read() == b"":
            closed.set()

    async with tcp(mute) as url, driven(url) as rig:
        await asyncio.wait_for(asked.wait(), WITHIN_S)
        rig.driver.command(DROP)
        await asyncio.wait_for(closed.wait(), WITHIN_S)
        assert [row for row in rig.kept.records if row[0] in ENDINGS] == []


async def test_an_answer_that_was_asked_for_is_not_waited_for() -> None:
    dialed, asked, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def venue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/depth" not in head:
            dialed.set()
            await reader.read()
            return
        asked.set()
        if await reader.read() == b"":
            closed.set()

    async with tcp(venue) as url, driven(url) as rig:
        await asyncio.wait_for(dialed.wait(), WITHIN_S)
        rig.driver.apply([Fetch(rig.source, "depth:BTC/USD", f"http{url[2:]}/depth")])
        await asyncio.wait_for(asked.wait(), WITHIN_S)
        rig.driver.command(DROP)
        await asyncio.wait_for(closed.wait(), WITHIN_S)
        assert [row for row in rig.kept.records if row[0] in ENDINGS] == []
