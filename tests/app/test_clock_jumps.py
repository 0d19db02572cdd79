"""The wall clock is set, or the machine sleeps, under a whole gateway on real sockets: no reconnect, and no venue is blamed."""

from __future__ import annotations

import asyncio
import glob
import time
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import WITHIN_S, Program, Simulator, environment, truetape_command, until, write_config
from truetape.app.replay import replay
from truetape.io import clock as clocks
from truetape.io.clock import Keeper, Readings
from truetape.io.serve.control import ControlError, ask
from truetape.model.event import Gap, Status

S = 1_000_000_000
HOUR = 3600 * S


def library() -> str:
    """libfaketime, or why the test cannot be."""
    found = sorted(glob.glob("/usr/lib/*/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("needs libfaketime (the Debian package faketime)")
    return found[0]


def asked(path: Path, claim: Any) -> dict[str, Any]:
    """The status, once a claim about it holds."""
    until_s = time.monotonic() + WITHIN_S
    tree: dict[str, Any] = {}
    while time.monotonic() < until_s:
        try:
            tree = ask(path, {"do": "status"})
        except ControlError:
            pass
        else:
            if claim(tree):
                return tree
        time.sleep(0.05)
    raise AssertionError(f"not so within {WITHIN_S} s: {tree}")


def live(tree: dict[str, Any]) -> bool:
    return all(row["state"] == "LIVE" for row in tree["subscriptions"] if row["channel"] == "book")


def test_a_wall_clock_set_by_an_hour_costs_no_connection_and_no_stream(tmp_path: Path, kraken: Simulator) -> None:
    """A real process, whose wall clock is set forward and back while its monotonic clock goes on."""
    control, offset, tape = tmp_path / "s", tmp_path / "offset", tmp_path / "tape"
    offset.write_text("+0\n", encoding="ascii")
    config = write_config(
        tmp_path / "c.toml",
        {
            "feeds": [kraken.feed(channels=["book"], profile="fast")],
            "control": {"socket": str(control)},
            "journal": {"dir": str(tape)},
        },
    )
    env = environment(
        LD_PRELOAD=library(),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    with Program(truetape_command("run", config), env) as program:
        asked(control, live)
        for steps, seconds in enumerate((-3600, 3600, 0), 1):
            offset.write_text(f"{seconds:+d}\n", encoding="ascii")
            tree = asked(control, lambda tree, steps=steps: tree["clock"]["steps"] == steps)
            assert abs(tree["clock"]["drift_ms"] - seconds * 1000) < 2000
            before = tree["connections"][0]["frames"]
            tree = asked(control, lambda tree, before=before: tree["connections"][0]["frames"] > before + 100)
            assert live(tree) and tree["connections"][0]["reconnects"] == 0
            assert [row["reason"] for row in tree["subscriptions"]] == [""] * len(tree["subscriptions"])
        assert tree["clock"]["suspended"] == 0 and tree["loop_lag_ms"] < 60_000
        assert "-3600" in program.line("stepped")
        program.signal(15)
        assert program.wait() == 0
    played = replay(tape)
    assert played["gaps"] == [] and {book["state"] for book in played["books"].values()} == {"LIVE"}


async def test_a_machine_that_slept_asks_at_once_and_believes_nothing(tmp_path: Path, kraken: Simulator) -> None:
    """The readings are ours; the sockets, the tape and the move of our clock are real."""
    asleep = 0

    def read() -> Readings:
        wall, monotonic, _ = clocks.readings()
        return wall + asleep, monotonic, monotonic + asleep

    tree = {"feeds": [kraken.feed(channels=["book"])], "journal": {"dir": str(tmp_path / "tape")}}
    try:
        async with truetape.open(tree) as gateway:
            gateway.driver.keeper = Keeper(read, clocks._advance)  # the driver's first turn is still to come
            assert await gateway.ready()
            said = gateway.subscribe("*", "book", name="said")
            before = clocks.now()
            asleep = HOUR
            told: list[Any] = []
            async with asyncio.timeout(WITHIN_S):
                while sum(isinstance(e, Status) and e.state == "LIVE" for e in told) < len(kraken.symbols):
                    told += [e for e in await said.take() if isinstance(e, Status | Gap)]
            assert clocks.now() - before >= HOUR, "our clock counts the sleep"
            states = [(e.state, e.reason) for e in told if isinstance(e, Status)]
            why = "this machine was suspended for 3600.0 s"
            assert states[0] == ("WOKE", why)
            assert states.count(("STALE", why)) == len(kraken.symbols)
            assert sum(isinstance(e, Gap) and not e.recovered and e.reason == why for e in told) == len(kraken.symbols)
            row = gateway.status()["connections"][0]
            assert (row["state"], row["reconnects"]) == ("OPEN", 0)
            await until(gateway, lambda: gateway.stream(kraken.ids()[0]).state == "LIVE")
            assert gateway.status()["loop_lag_ms"] < 60_000, "a sleep is no lag of the loop"
            digest = gateway.pump.digest
        assert replay(tmp_path / "tape")["digest"] == digest.value()
    finally:
        if clocks.now() - clocks.awake() > HOUR // 2:
            clocks._advance(-HOUR)  # for the tests that follow
