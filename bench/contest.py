"""One run: a sender on one core, a receiver on the other, and what both of them printed.

`rounds` interleaves the contestants (A B A B ...), so that a slow minute of a shared machine falls on all of them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import build
from bench.frames import frames_file
from bench.machine import RECEIVER_CORE, SENDER_CORE, pinned

ROOT = Path(__file__).parent.parent
ACK = '{"cmd":"subscribe","code":0,"message":"success","data":{}}'
PONG = '{"cmd":"pong","code":0,"message":"pong","data":{"timestamp":0000000000000}}'
SETTLE_MS = 100  # after the first subscribe: later ones of the same client are answered before the data begins
GRACE_S = 30.0  # what a run may take beyond its own pace: start, drain, report

Run = dict[str, Any]


class Failed(Exception):
    """A contestant did not report; the message says what it said instead."""


@dataclass(frozen=True)
class Load:
    """What is sent: `rate` 0 is full speed; `burst` frames fall due together."""

    levels: int
    symbols: int
    count: int
    rate: float = 0.0
    burst: int = 1
    delay: bool = False


@dataclass(frozen=True)
class Contestant:
    """A receiver: `frames` is what it takes in about a second at full speed and 5 levels."""

    name: str
    command: Sequence[str]
    frames: int = 100_000
    says: str = field(default="", compare=False)


def python_module(name: str, module: str, frames: int, says: str) -> Contestant:
    """A receiver that runs in this interpreter's environment."""
    return Contestant(name, (sys.executable, "-m", module), frames, says)


def ours(stand_in: str | None) -> Contestant:
    """Our whole path, or the module that stands in for it while the harness itself is tried."""
    return python_module("ours", stand_in or "bench.ours", 150_000, stand_in or "truetape, whole path")


def founding_client() -> Contestant:
    """websockets and json."""
    return python_module("founding_client", "bench.baselines.founding_client", 60_000, "founding Python client")


def floor() -> Contestant:
    """picows and msgspec with nothing above them."""
    return python_module("floor", "bench.baselines.floor", 300_000, "picows + msgspec, nothing above")


def go_baseline(name: str) -> Contestant | None:
    """`founding_gateway` or `best_go`, where it can be built."""
    frames = {"founding_gateway": 100_000, "best_go": 400_000}[name]
    command = build.go(name)
    return None if command is None else Contestant(name, command, frames, name.replace("_", " "))


def run(contestant: Contestant, load: Load) -> Run:
    """One sender, one receiver; the receiver's line with the sender's under "sender"."""
    limit_s = GRACE_S + (load.count / load.rate if load.rate else 0.0)
    shape = ["--frames-file", str(frames_file(load.levels, load.symbols)), "--count", str(load.count)]
    pace = ["--rate", str(load.rate), "--burst", str(load.burst), "--stamp", "--max-seconds", str(limit_s)]
    talk = ["--wait-texts", "1", "--settle-ms", str(SETTLE_MS), "--ack", ACK, "--pong", PONG]
    with pinned(SENDER_CORE):
        sender = _start([*build.sender(), *shape, *pace, *talk])
    try:
        assert sender.stdout is not None, "stdout was asked to be a pipe"
        port = json.loads(sender.stdout.readline() or "{}").get("port")
        if port is None:
            raise Failed(f"sender did not start: {_last(sender.communicate(timeout=5)[1])}")
        url = f"ws://127.0.0.1:{port}/v1/realtime?api_key=bench"
        wanted = [
            "--url",
            url,
            "--frames",
            str(load.count),
            "--levels",
            str(load.levels),
            "--symbols",
            str(load.symbols),
        ]
        line = report([*contestant.command, *wanted, *(["--delay"] if load.delay else [])], limit_s, contestant.name)
        line["sender"] = _json_line(sender.communicate(timeout=10)[0], "sender")
        return line
    except subprocess.TimeoutExpired as late:
        raise Failed(f"sender outlived {contestant.name}") from late
    finally:
        if sender.poll() is None:
            sender.kill()
            sender.wait()


def report(command: Sequence[str], limit_s: float, name: str) -> Run:
    """Run one receiver, or one bench without a socket, on its core; its last stdout line."""
    with pinned(RECEIVER_CORE):
        process = _start(command)
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as late:
        process.kill()
        process.communicate()
        raise Failed(f"{name}: no report within {limit_s:.0f} s") from late
    if process.returncode != 0:
        raise Failed(f"{name}: exit {process.returncode}: {_last(err)}")
    return _json_line(out, name)


def rounds(contestants: Sequence[Contestant], load: Load, times: int, scale: float = 1.0) -> dict[str, list[Run]]:
    """Interleaved runs, by name. Without a count each contestant gets its own, so that each runs about `scale` seconds."""
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in contestants}
    for _ in range(times):
        for contestant in contestants:
            count = load.count or int(contestant.frames * scale * 10 / (load.levels + 5))
            runs[contestant.name].append(run(contestant, replace(load, count=count)))
    return runs


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = {**os.environ, "PYTHONPATH": paths, "GOMAXPROCS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _json_line(out: str, name: str) -> Run:
    lines = out.strip().splitlines()
    try:
        line = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError) as error:
        raise Failed(f"{name}: expected a JSON line on stdout, found {lines[-1:]}") from error
    if not isinstance(line, dict):
        raise Failed(f"{name}: expected a JSON object, found {lines[-1]}")
    return line


def _last(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "nothing on stderr"
