"""Random disconnects under load: what a client received equals what was published, or the difference is exactly its explicit gaps."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

import truetape
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.serve.history import NEVER

WITHIN = 100.0


class Tap(Mailbox):
    """All that is published, in order, with nothing judged."""

    def settle(self, now: int) -> None:
        """Everything stays."""

    def __init__(self) -> None:
        super().__init__("tap", drop_oldest, 1, depth=0)
        self.limit = NEVER
        self.waiting = False


def cut(gateway: Gateway, luck: random.Random) -> None:
    """Every client's connection ends: reset, dropped, or with a close frame, wherever its bytes are."""
    assert gateway.service is not None
    for client in list(gateway.service.hall.clients):
        how = luck.choice(["reset", "abort", "close", "half"])
        pipe: Any = client.pipe
        transport = pipe._transport
        if transport is None:
            continue
        transport = getattr(transport, "underlying_transport", transport)
        if how == "close":
            pipe.close(1001, "cut")
        elif how == "half":  # a message of which a part only arrives
            transport.write(luck.choice([b"\x81\x7e\x01", b"\x00\x00\x10\x00half"]))
            transport.abort()
        else:
            if how == "reset" and (sock := transport.get_extra_info("socket")) is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()


class Copy:
    """What one client has of each topic: runs of events, and between them what it was told it lacks."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {}
        self.lost = 0

    def take(self, event: Any, changes: bool) -> None:
        kind = type(event).__name__.lower()
        if kind == "book" and changes:
            kind = "book_delta"
        if kind == "lagged":
            self.rows.setdefault(f"{event.topic}:{event.symbol}", []).append(("lost", event.dropped))
            self.lost += max(0, event.dropped)
        elif kind not in ("status", "gap"):
            self.rows.setdefault(f"{kind}:{event.symbol}", []).append(event)


def judge(copy: Copy, published: dict[str, list[Any]], depth: int) -> tuple[int, int]:
    """Walk both: every run continues where the last one ended, and each gap is as long as it says. Returns received and missed."""
    received = missed = 0
    for topic, rows in copy.rows.items():
        theirs = published[topic]
        at = -1  # until the first event: anywhere
        gap = False
        for row in rows:
            if isinstance(row, tuple):
                assert row[1] > 0, f"{topic}: the gateway is the same, so it knows how many"
                at += row[1] if at >= 0 else 0
                missed += row[1]
                gap = True
                continue
            if at < 0:
                at = next((n for n, event in enumerate(theirs) if same(event, row, depth)), -1)
                if at < 0:
                    assert topic.startswith("book"), f"{topic}: {row} was never published"
                    assert row.snapshot, f"{topic}: {row} was never published"
                    continue  # the whole book before the first change
            if (at == len(theirs) or not same(theirs[at], row, depth)) and topic.startswith("book") and row.snapshot:
                assert gap, f"{topic} at {at}: a whole book without a gap before it: {row}"
                assert row.recv == theirs[at - 1].recv, (
                    f"{topic} at {at}: expected the state of the last that was missed"
                )
                gap = False
                continue
            gap = False
            assert at < len(theirs), f"{topic}: more than was published: {row}"
            assert same(theirs[at], row, depth), f"{topic} at {at}: expected {theirs[at]}, found {row}"
            at += 1
            received += 1
    return received, missed


def same(published: Any, row: Any, depth: int) -> bool:
    if type(row) is not truetape.Book:
        return bool(published == row)
    whole = published.snapshot
    bids, asks = (
        (published.bids[:depth], published.asks[:depth]) if whole and depth else (published.bids, published.asks)
    )
    return (published.recv, published.seq, bids, asks) == (row.recv, row.seq, row.bids, row.asks)


@pytest.mark.parametrize("history", [300, 3], ids=["all-is-kept", "little-is-kept"])
@pytest.mark.parametrize(
    ("channels", "cuts"),
    [
        (["book_delta", "trade"], 500),
        (["book", "trade"], 60),
        pytest.param(["book", "trade"], 500, marks=pytest.mark.soak),
    ],
    ids=["changes", "books", "many-books"],
)
async def test_what_came_is_what_was_published_but_for_explicit_gaps(
    tmp_path: Path, channels: list[str], cuts: int, history: int
) -> None:
    seed = int(os.environ.get("TRUETAPE_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed={seed}")
    luck = random.Random(seed)
    depth = 5 if channels[0] == "book" else 0
    async with Simulator(Options(venue="kraken", symbols=4, rate=600, seed=seed)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        serve = {"port": 0, "socket": str(tmp_path / "s.sock"), "history": history, "limits": {"handshakes_per_s": 0}}
        async with (
            truetape.open({"feeds": [feed], "serve": serve}) as gateway,
            asyncio.timeout(WITHIN),
            asyncio.TaskGroup() as group,
        ):
            assert gateway.service is not None
            assert await gateway.ready()
            tap = Tap()
            gateway.pump.router.subscribe(tap, [(kind, "*", "*") for kind in channels])
            urls = [f"ws://127.0.0.1:{gateway.service.port}", f"unix:{tmp_path / 's.sock'}"]
            ways: list[tuple[str, Any]] = [(url, encoding) for url in urls for encoding in ("json", "msgpack")]
            copies = [Copy() for _ in ways]
            subs: list[truetape.ClientSubscription] = []

            async def read(url: str, encoding: Any, copy: Copy) -> None:
                async with truetape.client(url, encoding=encoding, backoff_first_s=0.01, backoff_max_s=0.05) as client:
                    sub = client.subscribe("kraken:*", channels, bound=100_000, depth=depth)
                    subs.append(sub)
                    async for event in sub:
                        copy.take(event, channels[0] == "book_delta")

            readers = [group.create_task(read(*way, copy)) for way, copy in zip(ways, copies, strict=True)]
            while len(subs) < len(ways) or not all(copy.rows for copy in copies):
                await asyncio.sleep(0.01)
            for _ in range(cuts // len(ways)):
                before = [sub.reconnects for sub in subs]
                cut(gateway, luck)
                while any(sub.reconnects == old for sub, old in zip(subs, before, strict=True)):
                    await asyncio.sleep(0.002)
                await asyncio.sleep(luck.choice([0, 0.005, 0.02]))
            mark = {topic.key: topic.published for topic in tap.topics.values()}
            while any(
                sub._uplink.reader.offsets.get(":".join(key), 0) < end for sub in subs for key, end in mark.items()
            ):
                await asyncio.sleep(0.01)
            for reader in readers:
                reader.cancel()
        published: dict[str, list[Any]] = {}
        for event in tap.inbox:
            kind = type(event).__name__.lower()
            if kind not in ("status", "gap", "lagged"):
                kind = "book_delta" if kind == "book" and channels[0] == "book_delta" else kind
                published.setdefault(f"{kind}:{event.symbol}", []).append(event)  # type: ignore[union-attr]
        totals = [judge(copy, published, depth) for copy in copies]
        print(f"{sum(sub.reconnects for sub in subs)} disconnects; (received, told as missing): {totals}")
        assert sum(sub.reconnects for sub in subs) >= cuts
        assert all(received > 100 for received, _ in totals)
        if history == 3:
            assert sum(missed for _, missed in totals), "a history of 3 must lose something, or the test proves nothing"
