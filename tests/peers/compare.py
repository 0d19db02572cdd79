"""Runs the simulator, a foreign client and our own path on it, and compares every state of every book that both saw.

`python -m tests.peers.compare [--seconds 15] [--through venue,gateway,added,replay] CLIENT…`; `tests/peers/run` makes the clients'
environments first. Our own path always reads the simulator itself. The client reads the simulator too (`venue`), or a gateway before it that
speaks the venue's protocol (`gateway`), or one that was told of a single book, so that it has the rest added (`added`), or, afterwards, the
tape that the first one wrote (`replay`): so what is compared went all the way round. A watcher (ours.py, ccxt_binance.py, …) prints
a JSON line for each state, `{"raw", "key", "bids", "asks"}`, and last `{"messages", "errors"}`; the key is what the venue proves a state by:
Binance's update number, Kraken's time and checksum.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
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
THROUGH = ("venue", "gateway", "added", "replay")
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
        "truetape",
        "sim",
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


def environment() -> dict[str, str]:
    """With our sources."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


@contextmanager
def gateway(venue: str, served: dict[str, Any], folder: Path, *, told: bool = True) -> Iterator[dict[str, Any]]:
    """A gateway before the simulator, in a process of its own, that speaks the venue's protocol and writes a tape. `told`: of all symbols."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "truetape.toml"
    symbols = json.dumps(served["symbols"] if told else served["symbols"][:1])
    channels = json.dumps(["book", "trade"] if told else ["book"])
    config.write_text(
        f'[[feeds]]\nvenue = "{venue}"\nsymbols = {symbols}\nchannels = {channels}\ndepth = 25\n'
        f'url = "{served["ws"]}"\nrest_url = "{served["rest"]}"\n[journal]\ndir = "{folder / "tape"}"\n'
        f'[serve]\nport = {port}\nnative = ["{venue}"]\n'
    )
    with (folder / "gateway.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "truetape", "run", str(config)],
            env=environment(), cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        ends = time.monotonic() + 20
        while not _ready(port):
            if child.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the gateway is not ready: {(folder / 'gateway.log').read_text()[-500:]}")
            time.sleep(0.05)
        yield addresses(venue, port, served["symbols"])
    finally:
        child.terminate()
        child.wait(20)


@contextmanager
def replayed(venue: str, tape: Path, symbols: list[str]) -> Iterator[dict[str, Any]]:
    """The tape as if live, from two seconds on, in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-m", "truetape", "replay", str(tape), "--serve", "--from", "+2", "--speed", "1"],
        env=environment(), stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        port = json.loads(child.stdout.readline())["port"]
        yield addresses(venue, port, symbols)
    finally:
        child.terminate()
        child.wait(20)


def addresses(venue: str, port: int, symbols: list[str]) -> dict[str, Any]:
    """Where a gateway or a replay speaks this protocol."""
    base = f"127.0.0.1:{port}/native/{venue}"
    if venue == "kraken":  # python-kraken-sdk asks for /0/public/… at the root of any address
        return {"venue": venue, "ws": f"ws://{base}/v2", "rest": f"http://127.0.0.1:{port}", "symbols": symbols}
    return {"venue": venue, "ws": f"ws://{base}", "rest": f"http://{base}", "symbols": symbols}


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def watch(python: Path, script: str, served: dict[str, Any], seconds: float, log: Path) -> subprocess.Popen[bytes]:
    """Start a watcher that writes to `log`."""
    arguments = [served["ws"], served["rest"], str(seconds), *served["symbols"]]
    around = environment() if script == "ours.py" else dict(os.environ)
    with log.open("wb") as out:
        return subprocess.Popen([python, HERE / script, *arguments], stdout=out, env=around)


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


def listen(client: str, source: dict[str, Any], sim: dict[str, Any] | None, seconds: float, folder: Path) -> list[str]:
    """The foreign client on `source`, our own path on the simulator where there is one; what went wrong with the processes."""
    _, script = CLIENTS[client]
    children = {}
    if sim is not None:
        children["our own path"] = watch(Path(sys.executable), "ours.py", sim, seconds + 6, folder / "ours")
    children["it"] = watch(ROOT / ".venv/peers" / client / "bin/python", script, source, seconds, folder / "theirs")
    try:
        codes = {name: child.wait(seconds + 60) for name, child in children.items()}
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    return [f"{name} ended with {code}" for name, code in codes.items() if code]


def trial(
    client: str, through: str, seconds: float, faults: str, folder: Path
) -> tuple[int, int, list[str], list[str]]:
    """One client: its messages, states equal, differences, errors."""
    venue, _ = CLIENTS[client]
    with simulator(venue, faults) as served:
        if through == "venue":
            errors = listen(client, served, served, seconds, folder)
        else:
            with gateway(venue, served, folder, told=through != "added") as source:
                errors = listen(client, source, served, seconds, folder)
    if through == "replay":
        with replayed(venue, folder / "tape", served["symbols"]) as source:
            errors += listen(client, source, None, seconds, folder)
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
    parser = argparse.ArgumentParser(description="foreign clients before the simulator, a gateway, and a tape")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--through", default=",".join(THROUGH), help=f"any of {','.join(THROUGH)}")
    parser.add_argument(
        "--faults",
        default="",
        help="break the simulator (drop-delta@5s): what the clients then say proves that they look, and what they hold must still be equal",
    )
    parser.add_argument("clients", nargs="+", choices=CLIENTS)
    asked = parser.parse_args()
    ways = asked.through.split(",")
    if unknown := [way for way in ways if way not in THROUGH]:
        parser.error(f"--through: expected {', '.join(THROUGH)}, found {unknown[0]!r}")
    failed = False
    print(
        f"{'client':20} {'through':8} {'messages':>9} {'books equal':>12} {'different':>10} {'errors':>7}", flush=True
    )
    for client in asked.clients:
        for way in ways:
            with tempfile.TemporaryDirectory() as folder:
                messages, equal, wrong, errors = trial(client, way, asked.seconds, asked.faults, Path(folder))
            print(f"{client:20} {way:8} {messages:9} {equal:12} {len(wrong):10} {len(errors):7}", flush=True)
            for text in wrong[:3] + errors[:5]:
                print(f"    {text}", flush=True)
            failed = failed or bool(wrong) or (bool(errors) and not asked.faults) or equal < STATES_MIN
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
