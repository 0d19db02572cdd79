"""`truetape sim`: a simulated venue in the foreground. Data on stdout: one JSON line that says where it is, or a config stanza."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import uvloop
from msgspec.structs import replace

from truetape.app.config import ConfigError
from truetape.app.dialects import dialect
from truetape.app.sim import Options, Simulator, until_stopped
from truetape.core.sim.faults import KNOWN, BadFault, Fault, parse

PORTS = {"binance": 9601, "kraken": 9602, "tickdb": 9603}
"""Where a simulator is expected by a printed config that named no port."""


def sim(
    venue: str, symbols: int, rate: float, seed: int, port: int, faults: str, print_config: bool, pregenerate: int, key: str, tls: str
) -> int:  # fmt: skip
    """Serve until SIGTERM (0) or Ctrl-C (130). Raises ConfigError for what cannot be simulated."""
    if faults == "list":
        sys.stdout.write("".join(f"{name:16} {meaning}\n" for name, meaning in KNOWN.items()))
        return 0
    options = Options(
        venue=venue,
        symbols=symbols,
        rate=rate,
        seed=seed,
        port=port,
        faults=tuple(script(faults)),
        pregenerate=pregenerate,
        key=key,
        tls=tls,
    )
    if print_config:
        sys.stdout.write(stanza(options))
        return 0
    simulator = _made(options)
    code = uvloop.run(until_stopped(simulator, announce))
    print(account(simulator), file=sys.stderr)
    return code


def script(text: str) -> list[Fault]:
    """The faults of a file, or of one line."""
    if not text:
        return []
    path = Path(text)
    if not path.is_file() and ("/" in text or path.suffix == ".txt"):
        raise ConfigError(f"faults: expected a file or a fault's name, found no file {path}")
    try:
        return parse(path.read_text(encoding="utf-8").splitlines() if path.is_file() else [text])
    except BadFault as error:
        raise ConfigError(f"faults: {error if path.is_file() else str(error).partition(': ')[2]}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"faults: {path}: cannot be read: {error}") from None


def _made(options: Options) -> Simulator:
    """The simulator. Raises ConfigError for a fault that would do nothing on this venue."""
    try:
        return Simulator(options)
    except BadFault as error:
        raise ConfigError(f"faults: {error}") from None


def announce(simulator: Simulator) -> None:
    """The first line of stdout."""
    row = {"venue": simulator.options.venue, "ws": simulator.ws, "rest": simulator.rest, "symbols": simulator.symbols}
    if simulator.ca_file:
        row |= {"ca_file": simulator.ca_file, "pins": [simulator.pin("first"), simulator.pin("second")]}
    print(json.dumps(row), flush=True)


def account(simulator: Simulator) -> str:
    """What was done, for stderr at the end. Messages that came too late to be made up for say that the rate was too high."""
    counts, done = simulator.counts, simulator.script.done
    said = [
        f"{counts.messages:,} messages made, {counts.late:,} skipped to keep up, {counts.frames:,} frames to {counts.clients} clients"
    ]
    if (p99 := simulator.lateness.percentile(0.99)) is not None:
        said += [f"beats {p99 / 1e6:.1f} ms late at p99, {simulator.lateness.largest / 1e6:.1f} at most"]
    said += [f"{counts.cut} cut for not reading"] if counts.cut else []
    said += [f"{name} {times} times" for name, times in sorted(done.items())]
    return f"truetape sim: {'; '.join(said)}"


def stanza(options: Options) -> str:
    """A ready `[[feeds]]` for the simulator that these options make, and how to start it. Without a port, the venue's in `PORTS`."""
    options = replace(options, port=options.port or PORTS.get(options.venue, 9600))
    simulator = _made(options)  # refuses what cannot be simulated; nothing is served
    channels = [name for name in ("book", "trade") if name in dialect(options.venue).channels]
    command = f"truetape sim --venue {options.venue} --symbols {options.symbols} --rate {options.rate:g}"
    return (
        f"# served by: {command} --seed {options.seed} --port {options.port}"
        f"{f' --tls {options.tls}' if options.tls else ''}\n[[feeds]]\n"
        f'name = "{options.venue}-sim"\nvenue = "{options.venue}"\nsymbols = {json.dumps(simulator.symbols)}\n'
        f'channels = {json.dumps(channels)}\nurl = "{simulator.ws}"\nrest_url = "{simulator.rest}"\n'
        + (
            'market = "always"  # the simulated one never closes\n'
            if hasattr(dialect(options.venue), "market_of")
            else ""
        )
        + (f"ca_file = {json.dumps(simulator.ca_file)}\n" if simulator.ca_file else "")
    )
