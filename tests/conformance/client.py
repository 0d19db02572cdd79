"""Our two receiving sides against the suite's server: `python -m tests.conformance.client PORT line|web [CASES]`.

`line` is the connection to a venue (`io.net.line`), under the real driver; `web` is that of `truetape.client` to a gateway
(`io.net.gatepipe`). Both say again what they hear, in the kind in which it came.
"""

from __future__ import annotations

import asyncio
import json
import sys
from types import SimpleNamespace
from typing import Any

import uvloop
from picows import WSFrame, WSMsgType, WSTransport

from truetape.core.route.router import Router
from truetape.core.serve.rfc6455 import Kind
from truetape.io.net.dial import Dialing, Failed, dial
from truetape.io.net.driver import Driver
from truetape.io.net.gatepipe import Web
from truetape.io.net.line import Line
from truetape.model.effect import Doubt, Effect

CASE_S = 30.0
HOW = Dialing(message_max=17 << 20)  # the suite's largest message is 16 MiB


class Told:
    """The host of a gateway's pipe: waits for the one end."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.end = asyncio.Event()

    def message(self, data: bytes) -> None:
        """The suite's own answers, beside the cases."""
        self.messages.append(data)

    def heard(self) -> None:
        """A control frame."""

    def lost(self, _code: int, _why: str) -> None:
        self.end.set()


class EchoWeb(Web):
    """Takes text and binary, where a gateway's has to keep to one."""

    def message(self, kind: Kind, data: bytes) -> None:
        super().message("text", data)
        if self.transport is not None:
            self.transport.send(WSMsgType.TEXT if kind == "text" else WSMsgType.BINARY, data)


async def web(url: str) -> list[bytes]:
    """One connection until its end."""
    told = Told()
    await dial(EchoWeb(told, text=True), url, HOW)
    await told.end.wait()
    return told.messages


class EchoLine(Line):
    """Notes the kind of what comes, for the driver sends text only."""

    kind = WSMsgType.TEXT

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self.kind = frame.msg_type
        super().on_ws_frame(transport, frame)


class EchoPump:
    """In the pump's place: a dialect that can read UTF-8, and binary messages as they are. What it cannot read it doubts, as the pump does."""

    deadline = None

    def __init__(self) -> None:
        self.router = Router()
        self.links = {"suite": SimpleNamespace(session=None)}
        self.line: EchoLine | None = None
        self.reason = ""

    def start(self, _now: int) -> list[Effect]:
        return []

    def opened(self, _source: str, _now: int) -> list[Effect]:
        return []

    def sampled(self, *_what: Any) -> list[Effect]:
        return []

    def tick(self, _now: int) -> list[Effect]:
        return []

    def frame(self, source: str, data: bytes, _now: int) -> list[Effect]:
        line = self.line
        assert line is not None
        assert line.transport is not None
        if line.kind is WSMsgType.TEXT:
            try:
                data.decode()
            except UnicodeDecodeError:
                return [Doubt(source)]
        line.transport.send(line.kind, data)
        return []

    def lost(self, _source: str, reason: str, *_more: Any) -> list[Effect]:
        self.reason = reason
        return []


async def line(url: str) -> None:
    """One connection under a driver until its end."""
    pump = EchoPump()
    driver = Driver(pump, lambda _source: HOW)  # type: ignore[arg-type]  # it asks no more of a pump than this one has
    pump.line = EchoLine(driver, "suite", HOW)
    transport = await dial(pump.line, url, HOW)
    try:
        await transport.wait_disconnected()
    except Exception:  # what picows hung up for
        pass
    assert pump.reason, "the end was told"


async def main(port: str, how: str) -> None:
    """All cases, one after another."""
    base = f"ws://127.0.0.1:{port}"
    count = json.loads((await web(f"{base}/getCaseCount"))[0])
    run = {"line": line, "web": web}[how]
    for number in range(1, count + 1):
        try:
            async with asyncio.timeout(CASE_S):
                await run(f"{base}/runCase?case={number}&agent={how}")
        except (Failed, TimeoutError) as error:
            print(f"case {number}: {error!r}", file=sys.stderr)
    await web(f"{base}/updateReports?agent={how}")


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
