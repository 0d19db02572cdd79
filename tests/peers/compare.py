"""Runs the simulator, a foreign client and our own path on it, and compares every state of every book that both saw.

`python -m tests.peers.compare [--seconds 15] CLIENT…`; `tests/peers/run` makes the clients' environments first. A watcher (ours.py,
ccxt_binance.py, …) prints a JSON line for each state, `{"raw", "key", "bids", "asks"}`, and last `{"messages", "errors"}`; the key is what
the venue proves a state by: Binance's update number, Kraken's time and checksum.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
CLIENTS = {
    "ccxt": ("binance", "ccxt_binance.py"),
    "python-binance": ("binance", "python_binance.py"),
    "python-kraken-sdk": ("kraken", "kraken_sdk.py"),
}
SYMBOLS = 3
RATE = 150
STATES_MIN = 200
"""States that both must have seen before they may be called equal."""
States = dict[tuple[str, str], list[tuple[Any, Any]]]


@contextmanager
def simulator(venue: str, faults: str) -> Iterator[dict[str, Any]]:
    """A simulator in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "truetape.app.cli.sim",
        "--venue",
        venue,
        "--symbols",
        str(SYMBOLS),
        "--rate",
        str(RATE),
    ]
    command += ["--faults", faults] if faults else []
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert child.stdout is not None
    try:
        yield json.loads(child.stdout.readline())
    finally:
        child.terminate()
        child.wait(10)


def watch(python: Path, script: str, served: dict[str, Any], seconds: float, log: Path) -> subprocess.Popen[bytes]:
    """Start a watcher that writes to `log`."""
    arguments = [served["ws"], served["rest"], str(seconds), *served["symbols"]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")} if script == "ours.py" else dict(os.environ)
    with log.open("wb") as out:
        return subprocess.Popen([python, HERE / script, *arguments], stdout=out, env=environment)


def read(log: Path) -> tuple[States, int, list[str]]:
    """The states of a watcher by (symbol, key), its messages and its errors."""
    states: States = {}
    messages, errors = 0, ["it ended before its time"]
    for line in log.read_text().splitlines():
        row = json.loads(line)
        if "key" in row:
            states.setdefault((row["raw"], row["key"]), []).append((row["bids"], row["asks"]))
        else:
            messages, errors = row["messages"], row["errors"]
    return states, messages, errors


def compared(theirs: States, ours: States) -> tuple[int, list[str]]:
    """How many of their states we hold in the same way, and the first differences. Two states may share a key within a millisecond."""
    equal, wrong = 0, []
    for (raw, key), states in theirs.items():
        for bids, asks in states:
            known = ours.get((raw, key))
            if known is None:
                continue
            if any((bids, asks) == (our_bids[: len(bids)], our_asks[: len(asks)]) for our_bids, our_asks in known):
                equal += 1
            else:
                wrong.append(
                    f"{raw} at {key}: theirs {bids[:2]} {asks[:2]}, ours {known[-1][0][:2]} {known[-1][1][:2]}"
                )
    return equal, wrong


def trial(client: str, seconds: float, faults: str, folder: Path) -> tuple[int, int, list[str], list[str]]:
    """One client: its messages, states equal, differences, errors."""
    venue, script = CLIENTS[client]
    with simulator(venue, faults) as served:
        ours = watch(Path(sys.executable), "ours.py", served, seconds + 6, folder / "ours")
        theirs = watch(ROOT / ".venv/peers" / client / "bin/python", script, served, seconds, folder / "theirs")
        try:
            errors = [f"{name} ended with {code}" for name, code in (
                ("it", theirs.wait(seconds + 60)), ("our own path", ours.wait(seconds + 60)),
            ) if code]  # fmt: skip
        finally:
            for child in (ours, theirs):
                child.kill()
                child.wait()
    their_states, messages, their_errors = read(folder / "theirs")
    our_states, _, our_errors = read(folder / "ours")
    equal, wrong = compared(their_states, our_states)
    errors += their_errors + [f"our own path: {error}" for error in our_errors]
    silent = sorted({raw for raw, _ in our_states} - {raw for raw, _ in their_states})
    errors += [f"no book of {raw}" for raw in silent]
    if equal < STATES_MIN:
        errors.append(f"expected {STATES_MIN} states in common, found {equal}")
    return messages, equal, wrong, errors


def main() -> int:
    parser = argparse.ArgumentParser(description="foreign clients before the simulator")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument(
        "--faults",
        default="",
        help="break the simulator (drop-delta@5s): what the clients then say proves that they look",
    )
    parser.add_argument("clients", nargs="+", choices=CLIENTS)
    asked = parser.parse_args()
    failed = False
    print(f"{'client':20} {'messages':>9} {'books equal':>12} {'different':>10} {'errors':>7}", flush=True)
    for client in asked.clients:
        with tempfile.TemporaryDirectory() as folder:
            messages, equal, wrong, errors = trial(client, asked.seconds, asked.faults, Path(folder))
        print(f"{client:20} {messages:9} {equal:12} {len(wrong):10} {len(errors):7}", flush=True)
        for text in wrong[:3] + errors[:5]:
            print(f"    {text}", flush=True)
        failed = failed or bool(wrong or errors)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
