"""What an idle connection costs: ten thousand clients with tokens, in a process of their own; `python -m bench.idle [CLIENTS [IDLE_S]]`.

They come within the default limits, from ten loopback addresses with ten tokens, in the `Authorization` header. The figure is the growth of
the server's resident memory, all told, for each. Then it is seen that they are connections: pinging, they outlive `idle_s` (the one that says
nothing is sent away), and one message reaches them all. The clients' side is `bench.idle_clients`. A JSON line last.
"""

import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import uvloop

import truetape
from bench import contest, machine, results
from bench.fanout_server import rss_kb, trade
from bench.targets import TARGETS
from truetape.app.live import Gateway
from truetape.io.clock import now as clock

CLIENTS = 10_000
IDLE_S = 60.0
NAMES = 10
WARM_UP = 100
SETTLE_S = 2.0
WITHIN_S = 120.0


class Crowd:
    """The other process: as many clients as it was told, and what they say of themselves."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @classmethod
    async def come(cls, gateway: Gateway, count: int, tokens: list[str]) -> "Crowd":
        """Once all are connected and greeted."""
        assert gateway.service is not None
        with machine.pinned(machine.SENDER_CORE):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.idle_clients",
                str(gateway.service.port),
                str(count),
                stdin=PIPE,
                stdout=PIPE,
            )
        crowd = cls(process)
        greeted = await crowd.ask(" ".join(tokens))
        assert greeted["greeted"] == count, greeted
        return crowd

    async def ask(self, what: str) -> dict[str, int]:
        """One line to it, one from it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what.encode() + b"\n")
        async with asyncio.timeout(WITHIN_S):
            line = await self.process.stdout.readline()
        assert line, f"the clients are gone, asked to {what[:20]}"
        found: dict[str, int] = json.loads(line)
        return found

    async def go(self, gateway: Gateway) -> None:
        """Away, and not counted any more."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        assert gateway.service is not None
        async with asyncio.timeout(WITHIN_S):
            while gateway.service.hall.clients:  # noqa: ASYNC110  whether they are gone is all that is asked
                await asyncio.sleep(0.05)


def config(folder: Path, idle_s: float) -> dict[str, Any]:
    """A gateway whose venue is not there, which asks for tokens; all limits but `idle_s` are the usual ones."""
    (folder / "secret").write_text("an idle secret of enough letters, for a bench alone")
    serve = {
        "port": 0,
        "keys": [{"id": "k", "secret": f"file:{folder / 'secret'}"}],
        "revoked_file": str(folder / "revoked.txt"),
        "limits": {"idle_s": idle_s},
    }
    feed = {"venue": "kraken", "symbols": ["BTC-USD"], "channels": ["trade"], "url": "ws://127.0.0.1:1"}
    return {"feeds": [feed], "serve": serve}


def tokens(gateway: Gateway) -> list[str]:
    """One for each name."""
    assert gateway.service is not None
    keys, now = gateway.service.keyring, clock()
    assert keys is not None
    return [keys.issue(f"idler{n}", "reader", ("*",), now + 3600 * 10**9, now)[0] for n in range(NAMES)]


async def idle(count: int, idle_s: float) -> dict[str, float]:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        async with truetape.open(config(Path(folder), idle_s)) as gateway:
            assert gateway.service is not None
            passes = tokens(gateway)
            await (await Crowd.come(gateway, min(count, WARM_UP), passes)).go(gateway)
            before = rss_kb()
            crowd = await Crowd.come(gateway, count, passes)
            try:
                await asyncio.sleep(SETTLE_S)
                after = rss_kb()
                cpu = await outlive(crowd, idle_s)
                ended = await crowd.ask("ended")
                told = await reach(gateway, crowd)
            finally:
                await crowd.go(gateway)
            return {
                "kb": (after - before) / count, "rss_mb": after / 1024, "left": sum(ended.values()), "idle_closed": ended.get("4002", 0),
                "idle_cpu": cpu, "told": told["told"], "subscribed_kb": (told["rss_kb"] - before) / count,
            }  # fmt: skip


async def outlive(crowd: Crowd, idle_s: float) -> float:
    """Longer than `idle_s`, pinged by each a few times; the share of a core that the server needed meanwhile."""
    began, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - began < 1.5 * idle_s:
        await crowd.ask("ping")
        await asyncio.sleep(0.3 * idle_s)
    return (time.process_time() - cpu) / (time.monotonic() - began)


async def reach(gateway: Gateway, crowd: Crowd) -> dict[str, float]:
    """All that are left subscribe; one message."""
    await crowd.ask("subscribe")
    await asyncio.sleep(SETTLE_S)
    held = rss_kb()
    (topic,) = [topic for topic in gateway.pump.router.topics.values() if topic.boxes]
    now = clock()
    gateway.pump.router.publish(topic, trade(now))
    gateway.driver.wake(now)
    return {**await crowd.ask("told"), "rss_kb": held}


def measure() -> dict[str, results.Entry]:
    """The entry of an idle connection."""
    run = contest.report([sys.executable, "-m", "bench.idle"], 600.0, "idle")
    target = TARGETS["idle_connection_kb"]
    print(
        f"  idle connection: {run['kb']:.1f} kB of {CLIENTS:,}, with a subscription {run['subscribed_kb']:.1f} kB; "
        f"{run['told']:,.0f} told, {run['idle_cpu']:.1%} of a core",
        flush=True,
    )
    broken = [] if run["told"] == CLIENTS - 1 == CLIENTS - run["left"] else ["not all stayed, or were told"]
    detail = {"clients": CLIENTS, **{name: round(value, 3) for name, value in run.items()}}
    made = results.entry("idle_connection_kb", run["kb"], target.target, "(the target)", detail, broken)
    return {"idle_connection_kb": made}


def main(clients: str = str(CLIENTS), idle_s: str = str(IDLE_S)) -> None:
    """Run one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    print(json.dumps(uvloop.run(idle(int(clients), float(idle_s)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
