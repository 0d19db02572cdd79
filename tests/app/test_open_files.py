"""More clients than the system has open files for: new ones are refused, those who stand and the gateway itself go on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from tests.app.child import Child
from truetape.app.stage import Stage

WITHIN_S = 90


@pytest.mark.parametrize("files", [64, 256])
async def test_a_gateway_without_files_refuses_and_lives(files: int, tmp_path: Path) -> None:
    with Stage("kraken", symbols=1, rate=100) as stage:
        child = Child(tmp_path, stage.feed(), "[serve.limits]\nhandshakes_per_s = 0")
        child.start(files=files)
        assert child.process is not None
        uri = f"ws://127.0.0.1:{child.port}/v1/stream"
        try:
            async with asyncio.timeout(WITHIN_S), connect(uri) as reader:
                await reader.recv()
                await reader.send(json.dumps({"type": "subscribe", "id": 1, "symbols": ["*"], "channels": ["trade"]}))
                await until_data(reader)
                guests = await asyncio.gather(*(knock(uri) for _ in range(400)))
                came = [guest for guest in guests if guest is not None]
                assert len(came) < files, "the rest was refused"
                await until_data(reader)
                assert child.process.poll() is None, child.noise.read_text()[-1000:]
                await asyncio.gather(*(guest.close() for guest in came))
                while (late := await knock(uri)) is None:
                    pass  # those who gave up are still being taken from the queue and found gone; then there is room again
                assert json.loads(await late.recv())["type"] == "hello"
                await late.close()
                await until_data(reader)
        finally:
            child.end()


async def knock(uri: str) -> ClientConnection | None:
    try:
        return await connect(uri, open_timeout=5)
    except (OSError, InvalidHandshake, WebSocketException, EOFError):
        return None


async def until_data(reader: ClientConnection) -> None:
    while json.loads(await reader.recv())["type"] != "data":
        pass
