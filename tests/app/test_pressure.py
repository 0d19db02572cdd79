"""Memory and the loop under pressure, in real processes: what is shed, what is told, how a process begins anew, and that it is not killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import (
    ROOT,
    Program,
    Simulator,
    environment,
    last_json,
    run,
    truetape_command,
    until,
    write_config,
)
from truetape.core.guard import ORDER
from truetape.io.clock import now as clock
from truetape.io.store import reader
from truetape.model.event import Status
from truetape.model.record import Header, Sampled

CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def cage() -> Iterator[Callable[[int], Path | None]]:
    """Control groups of so many MB, whose processes the kernel kills beyond; None where this machine lets us make none."""
    made: list[Path] = []

    def make(limit_mb: int) -> Path | None:
        for parent, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
            group = CGROUPS / parent / f"truetape-test-{os.getpid()}-{len(made)}"
            if not (CGROUPS / parent / "cgroup.procs").exists():
                continue
            with contextlib.suppress(OSError):
                group.mkdir()
                made.append(group)
                (group / limit).write_text(str(limit_mb * 1_000_000))
                return group
        return None

    yield make
    for group in made:
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError):
                group.rmdir()
                break


def caged(group: Path | None, command: list[str]) -> list[str]:
    """A command that begins its life in the cage."""
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *command] if group is not None else command


def kills(group: Path | None) -> int:
    """How many processes the kernel killed there for their memory."""
    if group is None:
        return 0
    for name in ("memory.oom_control", "memory.events"):
        if (group / name).exists():
            rows = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(rows["oom_kill"])
    return 0


def here(**more: str) -> dict[str, str]:
    return environment(PYTHONPATH=os.pathsep.join((str(ROOT), str(ROOT / "src"))), **more)


def next_where(program: Program, claim: Callable[[dict[str, Any]], bool], within: float) -> dict[str, Any]:
    """The first of the program's lines of which this is so."""
    ends, row = clock() + round(within * 1e9), {}
    while clock() < ends:
        row = json.loads(program.line('"memory"'))
        if claim(row):
            return row
    raise AssertionError(f"not so within {within} s: {row}; {program.stderr[-3:]}")


def test_a_consumer_that_never_reads_is_made_lighter_and_told_exactly(
    tmp_path: Path, cage: Callable[[int], Path | None], simulate: Callable[..., Simulator]
) -> None:
    venue = simulate("kraken", 20, 10_000, 0, "--pregenerate", 3_000)
    tree = {"feeds": [venue.feed(depth=10)], "journal": {"dir": str(tmp_path / "tape")}, "memory": {"budget_mb": 90}}
    config = write_config(tmp_path / "truetape.toml", tree)
    group = cage(90 * 5 // 4)
    command = [sys.executable, "-m", "tests.app.hoarder", str(config)]
    with Program(caged(group, command), env=here()) as program:
        row = next_where(program, lambda row: row["memory"]["shed"]["superseded"]["count"] > 20_000, 60)
        assert row["memory"]["state"] == "shedding"
        assert row["memory"]["peak_mb"] < 90 * 1.1
        assert [text.split()[0] for text in row["told"]] == ["TIGHT", "SHEDDING"]
        assert row["hoard"]["balanced"]
        assert row["reconnects"] == 0
        program.signal(signal.SIGTERM)
        ended = json.loads(program.line('"lagged"', 60))
        assert program.wait() == 0
    assert ended["balanced"]
    assert ended["lagged"] == ended["dropped"] >= 20_000
    assert kills(group) == 0
    samples = [part for part in reader.read(tmp_path / "tape") if isinstance(part, Sampled)]
    assert {part.name for part in samples} >= {"rss"}
    assert max(part.value for part in samples if part.name == "rss") > 80e6


def test_at_its_budget_a_gateway_drains_and_begins_itself_anew(
    tmp_path: Path, cage: Callable[[int], Path | None], simulate: Callable[..., Simulator]
) -> None:
    venue = simulate("kraken", 3, 1_000)
    tree = {
        "feeds": [venue.feed(venue="tests.app.leaky_venue", depth=10)],
        "journal": {"dir": str(tmp_path / "tape")},
        "control": {"socket": str(tmp_path / "control")},
        "memory": {"budget_mb": 90},
    }
    config = write_config(tmp_path / "truetape.toml", tree)
    group = cage(256)
    with Program(caged(group, truetape_command("run", config)), env=here(LEAK_BYTES="10000")) as program:
        pid = program.pid
        program.line('"state": "restarting"', 60)
        program.line('"event": "draining"')
        program.line('"event": "stopped"')
        program.line('"event": "started"')  # the next, in the same place
        program.line("did not help", 60)  # it leaks as before: no second restart within the minute
        assert (program.pid, program.process.poll()) == (pid, None)
        status = last_json(run("status", "--socket", tmp_path / "control", "--json").stdout)
        assert status["memory"]["restarts"] == 1
        assert status["memory"]["state"] == "shedding"
        assert status["memory"]["peak_mb"] < 90 * 1.3
        assert "did not help" in status["memory"]["reason"]
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    assert kills(group) == 0
    sound = run("verify", tmp_path / "tape", "--json")
    assert sound.returncode == 0, sound.stdout
    runs = [part for part in reader.read(tmp_path / "tape") if isinstance(part, Header) and not part.state]
    assert len(runs) == 2


async def test_a_blocked_loop_is_told_to_every_consumer_and_its_end_too(kraken: Simulator) -> None:
    async with truetape.open({"feeds": [kraken.feed()], "loop_lag_ms": 150}) as gateway:
        assert await gateway.ready()
        told: list[Status] = []
        with gateway.subscribe(kraken.ids()[0], ["trade"], mode=truetape.conflate(ms=50)) as said:
            time.sleep(0.6)  # what nobody should do on a loop
            async with asyncio.timeout(30):
                while len(told) < 2:
                    told += [event for event in await said.take() if isinstance(event, Status) and not event.venue]
        assert [event.state for event in told] == ["LAGGING", "OK"]
        assert told[0].reason.startswith("loop_lag: ")
        status = gateway.status()
        assert status["loop"]["state"] == "ok"
        assert status["loop"]["longest_lag_ms"] > 300
        assert status["loop"]["lagged"] == 1


async def test_the_status_says_who_holds_memory(kraken: Simulator, tmp_path: Path) -> None:
    tree = {"feeds": [kraken.feed()], "journal": {"dir": str(tmp_path / "tape")}, "memory": {"budget_mb": 4_000}}
    async with truetape.open(tree) as gateway:
        hoard = gateway.subscribe("*", ["book", "trade"], bound=100_000, name="hoard")
        await until(gateway, lambda: gateway.status()["memory"]["held_mb"]["mailboxes"] > 0.2)
        assert hoard.ledger.queued > 0
        memory = gateway.status()["memory"]
        assert memory["state"] == "ok"
        assert memory["budget_mb"] == 4_000
        assert memory["rss_mb"] <= memory["peak_mb"]
        assert set(memory["shed"]) == set(ORDER)
        held = memory["held_mb"]
        assert set(held) == {
            "mailboxes", "client_boxes", "client_buffers", "frames", "history", "reports", "books", "native_books", "sinks", "journal",
            "connections",
        }  # fmt: skip
        assert held["books"] > 0
        assert held["client_boxes"] == held["client_buffers"] == held["connections"] == 0
