"""Long runs under load, sender and gateway each in a process of its own: `make soak ARGS="-k pressure_soak -s"`.

The founding document's heaviest tier ten times over, and bursts. TRUETAPE_SOAK_SECONDS (300) is how long the steady run lasts. What must
hold on any machine is asserted; what depends on the machine (delays) is printed beside its target, and asserted only where
TRUETAPE_SOAK_STRICT is set.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import ROOT, Program, Simulator, environment, write_config

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("TRUETAPE_SOAK_SECONDS", "300"))
STRICT = bool(os.environ.get("TRUETAPE_SOAK_STRICT"))
BACKLOG_MB = 67.1  # what the tape may hold back for the disk, by default
P99_MS, RSS_MB, PAUSE_MS = 5.0, 120.0, 5.0
"""The targets at ten times the heaviest tier."""


def soak(folder: Path, venue: Simulator, seconds: float) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Run a gateway beside the simulator for so long, end the simulator, then the gateway. The last report, all, and the sender's account."""
    feed = venue.feed(depth=10, symbols_per_connection=5_000, backoff_first_s=60.0, backoff_max_s=60.0)
    config = write_config(folder / "truetape.toml", {"feeds": [feed], "journal": {"dir": str(folder / "tape")}})
    reports: list[dict[str, Any]] = []
    with Program(
        [sys.executable, "-m", "tests.app.soaker", str(config)],
        env=environment(PYTHONPATH=os.pathsep.join((str(ROOT), str(ROOT / "src")))),
    ) as program:
        while json.loads(line := program.line('"delay_ms"', 60))["live"] < len(
            venue.symbols
        ):  # asked for at the venue's pace
            reports.append(json.loads(line))
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            reports.append(json.loads(program.line('"delay_ms"', 60)))
        before = reports[-1]
        venue.signal(signal.SIGTERM)
        assert venue.wait(60) == 0
        program.line('"WAITING"', 60)
        program.signal(signal.SIGTERM)
        last = json.loads(program.line('"last"', 60))
        assert program.wait(60) == 0
    reports.append(last)
    last["reconnects"] = before["reconnects"]  # the end is no disconnect
    last["gaps"] = before["gaps"]
    return last, reports, venue.stderr[-1]


def told(name: str, last: dict[str, Any], sender: str) -> None:
    print(f"\n{name}: {json.dumps(last)}\n  {sender}\n  load average {os.getloadavg()}")
    print(
        f"  p99 {last['delay_ms']['p99']} ms (target {P99_MS}), peak {last['peak_mb']} MB (target {RSS_MB}), "
        f"longest pause {last['gc']['longest_pause_ms']} ms (target {PAUSE_MS})"
    )


def sent(account: str) -> int:
    """How many frames the simulator says it wrote."""
    found = re.search(r"([\d,]+) frames to", account)
    assert found is not None, account
    return int(found.group(1).replace(",", ""))


def nothing_lost(last: dict[str, Any], account: str, books: int) -> None:
    assert last["frames"] == sent(account)
    assert last["balanced"]
    assert (last["dropped"], last["lagged"], last["errors"], last["holes"]) == (0, 0, 0, 0)
    assert last["received"] == last["delivered"] + last["queued"]
    assert last["reconnects"] == 0
    assert set(last["gaps"]) <= {"stale"}  # what trades once a minute may fall silent; nothing else was missed
    assert books


def test_a_thousand_symbols_at_ten_times_the_heaviest_tier(tmp_path: Path, simulate: Callable[..., Simulator]) -> None:
    venue = simulate("tickdb", 1_000, 34_000, 0, "--pregenerate", 20_000)
    last, reports, account = soak(tmp_path, venue, SECONDS)
    told(f"34,000/s for {SECONDS:.0f} s", last, account)
    nothing_lost(last, account, reports[-2]["live"])
    assert reports[-2]["live"] == 1_000
    assert last["peak_mb"] < RSS_MB
    if STRICT:
        assert last["delay_ms"]["p99"] < P99_MS
        assert last["gc"]["longest_pause_ms"] < PAUSE_MS


@pytest.mark.parametrize(
    ("symbols", "rate", "burst_s", "quiet_s"),
    [(1_000, 340, 45, 15), (500, 1_847, 1, 10)],
    ids=["45 s of 100 times 340/s", "1 s of 100 times 1,847/s"],
)
def test_bursts_of_a_hundred_times_cut_nothing_and_lose_nothing(
    tmp_path: Path, simulate: Callable[..., Simulator], symbols: int, rate: int, burst_s: int, quiet_s: int
) -> None:
    faults = f"burst-100x@45s={burst_s}"  # all symbols are LIVE by then
    venue = simulate("tickdb", symbols, rate, 0, "--pregenerate", 20_000, "--faults", faults)
    last, reports, account = soak(tmp_path, venue, 45 + burst_s + quiet_s)
    told(f"{faults} of {rate}/s on {symbols} symbols", last, account)
    nothing_lost(last, account, symbols)
    assert "burst-100x 1 times" in account
    base = max(row["rss_mb"] for row in reports if row["uptime_s"] < 42)
    after = reports[-2]["rss_mb"]
    print(
        f"  memory {base} MB before, {last['peak_mb']} at most (target {base + 68.7:.1f}), {after} after (target {base * 1.1:.1f})"
    )
    assert last["peak_mb"] <= base + 68.7 + BACKLOG_MB
    assert after <= base + 68.7  # what is kept is used again; see docs/soak.md
