"""Trials of a link that dies: a venue that is stopped, cut off or deaf, against drivers on real sockets, all at once.

Each trial is one connection, opened at a random moment, so that the fault finds each in another phase of its pings. Figures count from
before the fault was made to the record of the loss.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import trustme
from msgspec import Struct
from picows import WSMsgType

from tests.io.netns import FAR, Cable
from tests.io.test_driver import Rig
from truetape.app.cli.run import loop_factory
from truetape.app.config import PROFILES
from truetape.io.clock import now as clock
from truetape.model import record

ROOT = Path(__file__).resolve().parent.parent.parent
BOUNDS_S = {name: how["ping_every_s"] + how["pong_within_s"] + 0.5 for name, how in PROFILES.items()}
JUNK = b" " * (1 << 20)
"""More than the kernel takes (see `stuff`): what is left waits in our own send buffer, and every ping behind it."""


class Mode(Struct, frozen=True):
    """How the link dies."""

    text: str
    inbound: bool = False  # packets to us are dropped
    outbound: bool = False  # packets from us are dropped
    stop: bool = False  # SIGSTOP
    deaf: bool = False  # it reads nothing more, and goes on talking
    full: bool = False  # and our send buffer is full
    tls: bool = False

    @property
    def cut(self) -> bool:
        return self.inbound or self.outbound


MODES = {
    "stopped": Mode("the venue's process is stopped (SIGSTOP)", stop=True),
    "stopped, full": Mode("stopped, and our send buffer is full", stop=True, full=True),
    "cut": Mode("packets are dropped both ways", inbound=True, outbound=True),
    "cut, full": Mode("dropped both ways, and our send buffer is full", inbound=True, outbound=True, full=True),
    "cut inbound": Mode("packets are dropped on their way to us only", inbound=True),
    "cut inbound, full": Mode("dropped on their way to us, and our send buffer is full", inbound=True, full=True),
    "stopped, full, TLS": Mode("stopped, our send buffer full, over TLS", stop=True, full=True, tls=True),
    "cut inbound, TLS": Mode("dropped on their way to us, over TLS", inbound=True, tls=True),
    "deaf": Mode("the venue talks but reads nothing, and our send buffer is full", deaf=True, full=True),
}


class Venue:
    """One venue for all trials of a mode."""

    def __init__(self, mode: Mode, cable: Cable | None, folder: Path) -> None:
        self.mode = mode
        self.dialing: dict[str, Any] = {}
        self.cable = cable if mode.cut else None
        self.address = FAR if self.cable is not None else "127.0.0.1"
        words = [sys.executable, "-m", "tests.io.link_venue", self.address]
        if mode.tls:
            authority, pem = trustme.CA(), folder / f"{self.address}.pem"
            authority.issue_cert(self.address).private_key_and_cert_chain_pem.write_to_path(pem)
            self.dialing["ssl_context"] = ssl.create_default_context()
            authority.configure_trust(self.dialing["ssl_context"])
            words.append(str(pem))
        self.process = subprocess.Popen(
            self.cable.command(words) if self.cable is not None else words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"{'wss' if self.mode.tls else 'ws'}://{self.address}:{self.port}/v2"

    def fault(self) -> int:
        """Make it; returns when we began to, ns."""
        began = clock()
        if self.mode.stop:
            os.kill(self.process.pid, signal.SIGSTOP)
        if self.mode.deaf:
            assert self.process.stdin is not None
            print("deaf", file=self.process.stdin, flush=True)
        if self.cable is not None:
            for words in self.cable.rule(self.port, inbound=self.mode.inbound, outbound=self.mode.outbound):
                subprocess.run(words, check=True, timeout=20)
        return began

    def end(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)
        self.process.kill()
        self.process.communicate()


class Found(Struct, frozen=True):
    """One trial: how long after the fault the link was given up, and for what."""

    mode: str
    profile: str
    after_s: float
    reason: str
    left: int  # bytes that stood in our send buffer, after the fault
    closed: bool  # whether the socket was gone at once


async def _opened(venue: Venue, profile: str, delay_s: float, group: asyncio.TaskGroup) -> Rig:
    await asyncio.sleep(delay_s)  # the phase of its pings, which is what varies between trials
    # no venue's own silence limit: what is found here is found by our pings alone
    rig = Rig(
        venue.url, venue.dialing, {"profile": profile, "dead_after_s": 0.0, "ack_within_s": 0.0, "healthy_after_s": 0.0}
    )
    group.create_task(rig.driver.run())
    await rig.kept.until(lambda: rig.kept.of(record.FRAME))
    return rig


def stuff(line: Any) -> None:
    """Fill the send buffer: a message that nobody reads, larger than what the kernel takes."""
    pipe = line.transport.underlying_transport
    pipe.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    line.transport.send(WSMsgType.TEXT, JUNK)


async def _trials(name: str, mode: Mode, venue: Venue, profiles: list[str], count: int, random: Random) -> list[Found]:
    """All trials of one mode, at once."""
    spread = max(PROFILES[profile]["ping_every_s"] for profile in profiles)
    within = max(BOUNDS_S[profile] for profile in profiles) + 15
    async with asyncio.TaskGroup() as group:
        jobs = [(profile, random.uniform(0, spread)) for profile in profiles for _ in range(count)]
        rigs = await asyncio.gather(*(_opened(venue, profile, delay, group) for profile, delay in jobs))
        lines = [rig.driver._lines[rig.source] for rig in rigs]
        began = await asyncio.to_thread(venue.fault)
        found = []
        if mode.full:
            for line in lines:
                stuff(line)
        left = [line.transport.underlying_transport.get_write_buffer_size() for line in lines]  # type: ignore[union-attr]
        for (profile, _), rig, line, bytes_left in zip(jobs, rigs, lines, left, strict=True):
            lost = await rig.kept.lost() if rig.kept.of(record.LOST) else await _lost(rig, within)
            assert line.transport is not None
            async with asyncio.timeout(5):
                closed = await _closed(line.transport)
            found.append(Found(name, profile, (lost[2] - began) / 1e9, lost[3], bytes_left, closed))
        for rig in rigs:
            rig.driver.stop()
    return found


async def _lost(rig: Rig, within: float) -> tuple[Any, ...]:
    await rig.kept.until(lambda: rig.kept.of(record.LOST), within)
    return rig.kept.of(record.LOST)[0]


async def _closed(transport: Any) -> bool:
    await transport.wait_disconnected()
    return bool(transport.is_disconnected)


def run(count: int, profiles: list[str], modes: list[str], seed: int) -> list[Found]:
    """`count` trials of each mode and profile, all modes at once. Cables need root: see `netns.refused`."""
    random = Random(seed)
    with ExitStack() as stack:
        cable = stack.enter_context(Cable()) if any(MODES[name].cut for name in modes) else None
        venues = {}
        folder = Path(stack.enter_context(TemporaryDirectory()))
        for name in modes:
            venues[name] = Venue(MODES[name], cable, folder)
            stack.callback(venues[name].end)

        async def everything() -> list[Found]:
            rows = await asyncio.gather(
                *(_trials(name, MODES[name], venues[name], profiles, count, random) for name in modes)
            )
            return [row for part in rows for row in part]

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(everything())


def table(found: list[Found]) -> str:
    """The figures as Markdown: for each mode and profile, how many trials, the median and the longest."""
    profiles = list(dict.fromkeys(row.profile for row in found))
    text = "| How the link dies | " + " | ".join(f"`{name}`: median, longest" for name in profiles) + " | Trials |\n"
    text += "|---|" + "---|" * len(profiles) + "---|\n"
    for name in dict.fromkeys(row.mode for row in found):
        cells = []
        for profile in profiles:
            times = [row.after_s for row in found if (row.mode, row.profile) == (name, profile)]
            cells.append(f"{statistics.median(times):.2f} s, {max(times):.2f} s")
        count = sum(row.mode == name for row in found) // len(profiles)
        text += f"| {MODES[name].text} | {' | '.join(cells)} | {count} each |\n"
    return text


def worst(found: list[Found], claim: Callable[[Found], bool]) -> str:
    """Those of which a claim does not hold, for a message."""
    return json.dumps([[row.mode, row.profile, round(row.after_s, 3), row.reason] for row in found if not claim(row)])


if __name__ == "__main__":
    print(
        table(run(int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3].split(",") if sys.argv[3:] else list(MODES), 1))
    )
