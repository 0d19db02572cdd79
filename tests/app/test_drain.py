"""A drain, with a real process under load: not ready at once, clients told when to come back, the tape whole, gone within ten seconds."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.app.conftest import environment, last_json, run, truetape_command
from truetape.app.sim import Options, Simulator

NOT_READY_S = 0.1
OVER_S = 10.0
"""Both are promised."""
WITHIN = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


class Run:
    """`truetape run` in a folder of its own, perhaps on a slow disk."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], port: int) -> None:
        self.folder = folder
        self.process = process
        self.port = port
        self.pid = process.pid

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    async def get(self, path: str) -> int:
        """The status of a plain GET, 0 where nobody listens."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(WITHIN):
                line = await reader.readline()
            writer.close()
        except ConnectionError:
            return 0
        return int(line.split()[1]) if line else 0

    async def until(self, path: str, status: int) -> None:
        async with asyncio.timeout(WITHIN):
            while await self.get(path) != status:
                assert self.process.poll() is None, (self.folder / "stderr").read_text()
                await asyncio.sleep(0.005)


@contextmanager
def running(folder: Path, stanza: str, slow_us: int = 0) -> Iterator[Run]:
    port = free_port()
    (folder / "gateway.toml").write_text(
        f"{stanza}\n[journal]\n[control]\n[serve]\nport = {port}\nlimits = {{ buffer_bytes = 4096 }}\nnative = ['kraken']\n"
    )
    command = truetape_command("run", "gateway.toml")
    if slow_us:
        fault = f"inject=fdatasync:delay_enter={slow_us}:when=20+"
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", fault, *command]
    with (folder / "stderr").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stderr=log, stdout=log, text=True)
    try:
        run_ = Run(folder, process, port)
        if slow_us:
            run_.pid = 0
        yield run_
    finally:
        if process.poll() is None:
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.kill()
        process.wait(10)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@asynccontextmanager
async def venue(rate: float = 500) -> AsyncIterator[str]:
    async with Simulator(Options(venue="kraken", symbols=5, rate=rate)) as sim:
        names = json.dumps(sim.symbols)
        yield f'[[feeds]]\nvenue = "kraken"\nsymbols = {names}\nurl = "{sim.ws}"\nrest_url = "{sim.rest}"\n'


async def subscribed(url: str) -> ClientConnection:
    client = await connect(url)
    await client.recv()
    await client.send(json.dumps({"type": "subscribe", "id": 1, "symbols": ["*"], "channels": ["book_delta", "trade"]}))
    return client


async def stalled(port: int) -> socket.socket:
    """A client that subscribes to everything and never reads again."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    head = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
    await loop.sock_sendall(client, f"{head}Sec-WebSocket-Version: 13\r\n\r\n".encode())
    await loop.sock_recv(client, 1000)
    body = json.dumps({"type": "subscribe", "id": 1, "symbols": ["*"], "channels": ["book", "trade"]}).encode()
    frame = bytes((0x81, 0x80 | len(body), 0, 0, 0, 0)) + body
    await loop.sock_sendall(client, frame)
    return client


async def last_words(client: ClientConnection) -> dict[str, object]:
    """The Bye, and with which code the connection ended."""
    bye: dict[str, object] = {}
    try:
        async with asyncio.timeout(WITHIN):
            while True:
                said = json.loads(await client.recv())
                if said["type"] == "bye":
                    bye = said
    except ConnectionClosed:
        return bye | {"closed": client.close_code}


@pytest.mark.parametrize("slow_us", [0, 300_000], ids=["disk", "slow disk"])
async def test_a_drain_is_in_order_and_over_in_time(tmp_path: Path, slow_us: int) -> None:
    if slow_us and shutil.which("strace") is None:
        pytest.skip("needs strace")
    async with venue() as stanza:
        with running(tmp_path, stanza, slow_us) as gateway:
            await gateway.until("/readyz", 200)
            clients = [await subscribed(gateway.url) for _ in range(10)]
            bot = await connect(f"ws://127.0.0.1:{gateway.port}/native/kraken/v2")
            ends = [asyncio.create_task(last_words(client)) for client in clients]
            stuck = await stalled(gateway.port)
            pid = gateway.pid or children(gateway.process.pid)[0]
            await asyncio.sleep(1.0)  # load, not a condition: the stalled client's buffers fill
            began = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            await gateway.until("/readyz", 503)
            assert time.monotonic() - began < NOT_READY_S
            assert await gateway.get("/livez") == 200, "it can be asked while it drains"
            with pytest.raises(InvalidStatus) as refused:
                await connect(gateway.url)
            assert refused.value.response.status_code == 503
            assert float(refused.value.response.headers["Retry-After"]) >= 1
            byes = await asyncio.gather(*ends)
            assert {bye["closed"] for bye in byes} == {4000}
            assert {bye["reason"] for bye in byes} == {"draining"}
            waits = [float(str(bye["retry_after_s"])) for bye in byes]
            assert min(waits) >= 1
            assert len(set(waits)) == len(waits), "not all at once"
            with pytest.raises(ConnectionClosed):
                while True:
                    async with asyncio.timeout(WITHIN):
                        await bot.recv()
            code = await asyncio.to_thread(gateway.process.wait, WITHIN)
            assert time.monotonic() - began < OVER_S
            assert code == 0, (tmp_path / "stderr").read_text()
            stuck.close()
    verified = run("verify", "tape", "--json", cwd=tmp_path)
    assert verified.returncode == 0
    found = last_json(verified.stdout)
    assert found["records"] > 500
    assert found["holes"] == []
    assert not found["repaired_tail"], "the end of the tape was written in order"


async def test_the_command_drains_too(tmp_path: Path) -> None:
    async with venue(rate=50) as stanza:
        with running(tmp_path, stanza) as gateway:
            await gateway.until("/readyz", 200)
            done = await asyncio.to_thread(run, "drain", "--json", cwd=tmp_path)
            assert (done.returncode, last_json(done.stdout)) == (0, {"ok": True})
            assert await asyncio.to_thread(gateway.process.wait, WITHIN) == 0
            again = await asyncio.to_thread(run, "drain", cwd=tmp_path)
            assert again.returncode == 1
            assert "no gateway answers there" in again.stderr
