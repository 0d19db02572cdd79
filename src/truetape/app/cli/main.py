"""`truetape …`: the commands and their options. Each imports what it needs when it is called, so that --help is quick."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Optional

import typer

import truetape
from truetape.app.cli import look, ops

app = typer.Typer(
    name="truetape", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="A market data gateway that knows what it lost, how far its books can be believed, and can prove it.",
)  # fmt: skip

AsJson = Annotated[bool, typer.Option("--json", help="the last line of stdout is one JSON object")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"truetape {truetape.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """See the commands below; `truetape COMMAND --help` tells more."""


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=0, help="end by itself after so many seconds; 0: Ctrl-C ends it")] = 0,
    json: AsJson = False,
) -> None:
    """Three simulated venues, the whole gateway and a live screen: no network, no key."""
    from truetape.app.cli import demo as room

    raise typer.Exit(room.demo(seconds, json))


@app.command()
def run(config: Annotated[Path, typer.Argument(help="a TOML file; `truetape config --defaults` prints one")]) -> None:
    """Run a gateway in the foreground; SIGTERM drains and ends it."""
    from truetape.app.cli import run as room

    raise typer.Exit(room.run(config))


@app.command()
def check(config: Annotated[Path, typer.Argument(help="a TOML file")], json: AsJson = False) -> None:
    """Validate a configuration and show what it would connect to."""
    from truetape.app.cli import run as room

    raise typer.Exit(room.check(config, json))


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="a TOML file")],
    rates: Annotated[
        Optional[Path],  # noqa: UP045  typer
        typer.Option(
            help="balance by these: a tape's folder, what `truetape status --json` printed, or a file of --save"
        ),
    ] = None,
    save: Annotated[
        Optional[Path],  # noqa: UP045  typer
        typer.Option(help='write the rates here; a feed then names the file: rates = "…"'),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show which connections a configuration needs, what each carries, and how much room the limits leave."""
    from truetape.app.cli import plan as room

    raise typer.Exit(room.plan(config, rates, save, json))


@app.command()
def watch(
    symbols: Annotated[list[str], typer.Argument(help="VENUE:SYMBOL …, such as kraken:BTC-USD")],
    config: Annotated[Optional[Path], typer.Option(help="take the feeds' settings from this file")] = None,  # noqa: UP045  typer
    url: Annotated[str, typer.Option(help="connect here instead of the venue")] = "",
    rest_url: Annotated[str, typer.Option(help="fetch snapshots here instead of the venue")] = "",
    depth: Annotated[int, typer.Option(min=1, max=1000)] = 10,
    seconds: Annotated[float, typer.Option(min=0, help="end by itself after so many seconds")] = 0,
    json: Annotated[bool, typer.Option("--json", help="print events as JSON lines instead of a screen")] = False,
) -> None:
    """Watch books and trades live."""
    from truetape.app.cli import watch as room

    raise typer.Exit(room.watch(symbols, config, url, rest_url, depth, seconds, json))


@app.command()
def status(
    socket: Annotated[Path, typer.Option(help="the gateway's control socket")] = Path("run/truetape.sock"),
    json: AsJson = False,
) -> None:
    """Ask a running gateway how it is."""
    from truetape.app.cli import run as room

    raise typer.Exit(room.status(socket, json))


@app.command()
def replay(
    path: Annotated[Path, typer.Argument(help="a journal's folder, or a capture file (.jsonl, .jsonl.gz)")],
    venue: Annotated[str, typer.Option(help="the capture's venue; found from its URLs without this")] = "",
    books: Annotated[int, typer.Option(min=0, help="levels to print of each book")] = 10,
    speed: Annotated[
        str, typer.Option(help="max, or a factor of the recorded pace: 1, 10, 0.5; max without this, 1 with --serve")
    ] = "",
    start: Annotated[str, typer.Option("--from", help="ns, ISO 8601, or +seconds from the beginning")] = "",
    end: Annotated[str, typer.Option("--to", help="ns, ISO 8601, or +seconds from the beginning")] = "",
    json: AsJson = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="let clients connect and play it to them as if it were live")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="with --serve: where to listen; 0 takes a free port")
    ] = 0,
    loop: Annotated[bool, typer.Option("--loop", help="with --serve: begin anew at the end, and tell so")] = False,
) -> None:
    """Play a recording through the gateway and tell what it holds, or serve it."""
    from truetape.app.cli import replay as room

    if serve:
        raise typer.Exit(room.serve(path, venue, speed or "1", start, end, port, loop))
    if loop:
        raise typer.BadParameter("expected --serve beside it: a report has an end", param_hint="--loop")
    speed = speed or "max"
    raise typer.Exit(room.replay(path, venue, books, speed, start, end, json))


@app.command()
def verify(directory: Annotated[Path, typer.Argument(help="a journal's folder")], json: AsJson = False) -> None:
    """Check every byte of a journal: exit 0 sound, 1 damaged."""
    from truetape.app.cli import tape as room

    raise typer.Exit(room.verify(directory, json))


@app.command()
def dump(
    directory: Annotated[Path, typer.Argument(help="a journal's folder")],
    kind: Annotated[
        list[str] | None, typer.Option(help="records (frame, opened, …) or events (trade, quote, …); again for more")
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="JSON lines (the default)")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="comma-separated values")] = False,
) -> None:
    """Print the records of a journal, or the events that they make."""
    from truetape.app.cli import tape as room

    raise typer.Exit(room.dump(directory, kind or [], csv and not jsonl))


@app.command()
def symbols(
    venue: Annotated[str, typer.Argument(help="a venue")],
    pattern: Annotated[str, typer.Argument(help="part of a symbol, or a pattern with *")] = "",
    rest_url: Annotated[str, typer.Option(help="ask here instead of the venue")] = "",
    json: AsJson = False,
) -> None:
    """List a venue's symbols, in our spelling and its own."""
    from truetape.app.cli import symbols as room

    raise typer.Exit(room.symbols(venue, pattern, rest_url, json))


@app.command()
def config(
    defaults: Annotated[bool, typer.Option("--defaults", help="print a commented config with every key")] = False,
) -> None:
    """The configuration's keys."""
    from truetape.app.cli import defaults as room

    raise typer.Exit(room.config(defaults))


@app.command()
def sim(
    venue: Annotated[str, typer.Option(help="kraken, binance or tickdb")],
    symbols: Annotated[int, typer.Option(min=1, max=5000, help="how many")] = 3,
    rate: Annotated[float, typer.Option(min=0, help="messages per second in total")] = 100,
    seed: Annotated[int, typer.Option()] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 0,
    faults: Annotated[str, typer.Option(help="a fault such as close-1006@10s, a file of them, or list")] = "",
    print_config: Annotated[bool, typer.Option("--print-config", help="print a [[feeds]] stanza for it")] = False,
    pregenerate: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="for load: prepare so many changes, and play them to and fro")
    ] = 0,
    key: Annotated[
        str, typer.Option(help="tickdb: the only key that it accepts; a pretended one, no secret of yours")
    ] = "",
    tls: Annotated[str, typer.Option(help="serve with TLS; a folder for its certificates, made where missing")] = "",
) -> None:
    """A simulated venue on loopback, speaking the venue's own protocol."""
    from truetape.app.cli import sim as room

    raise typer.Exit(room.sim(venue, symbols, rate, seed, port, faults, print_config, pregenerate, key, tls))


@app.command()
def faults(
    names: Annotated[Optional[list[str]], typer.Argument(help="faults; all without any")] = None,  # noqa: UP045  typer
    venue: Annotated[str, typer.Option(help="only on this simulated venue: binance, kraken or tickdb")] = "",
    json: AsJson = False,
) -> None:
    """Rehearse faults: the gateway against simulated venues that make them, judged by the venues' own books."""
    from truetape.app.cli import faults as room

    raise typer.Exit(room.faults(names or [], venue, json))


@app.command()
def simtest(
    seeds: Annotated[int, typer.Option(min=1, help="how many")] = 60,
    start: Annotated[int, typer.Option("--from", min=0, help="the first")] = 1,
    processes: Annotated[int, typer.Option(min=0, max=256, help="0: one for each processor")] = 0,
    json: AsJson = False,
) -> None:
    """Play the gateway through faults on a virtual clock, one scenario for each seed, and judge every step."""
    from truetape.app.cli import simtest as room

    raise typer.Exit(room.simtest(seeds, start, processes, json))


ops.add(app)
app.command()(look.top)

token_app = typer.Typer(
    no_args_is_help=True, help="Tokens for downstream clients, signed with the keys of a configuration."
)
app.add_typer(token_app, name="token")

Config = Annotated[Path, typer.Option(help="the gateway's TOML file, with [[serve.keys]]")]
A_TOKEN = typer.Argument(help="the token; `-` reads it from standard input")


def _token(text: str) -> str:
    return sys.stdin.readline().strip() if text == "-" else text


@token_app.command("issue")
def token_issue(
    name: Annotated[str, typer.Argument(help="who it is for")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[PATTERN]...", help="further patterns of --allow")
    ] = None,
    config: Config = Path("gateway.toml"),
    role: Annotated[str, typer.Option(help="reader, trader, ops or admin")] = "reader",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="what it may read, such as kraken:BTC-USD or *:ETH-USD/trade; again for more; without it everything"
        ),
    ] = None,
    ttl: Annotated[str, typer.Option(help="how long it is valid: 90s, 15m, 12h, 30d")] = "30d",
    key: Annotated[str, typer.Option(help="the id of the key to sign with; without it the first that can")] = "",
) -> None:
    """Print a new token."""
    from truetape.app.cli import token as room

    raise typer.Exit(room.issue(config, name, role, [*(allow or []), *(more or [])] or ["*"], ttl, key))


@token_app.command("inspect")
def token_inspect(token: Annotated[str, A_TOKEN], config: Config = Path("gateway.toml"), json: AsJson = False) -> None:
    """What a token grants; exit 1 where it would be refused."""
    from truetape.app.cli import token as room

    raise typer.Exit(room.inspect(config, _token(token), json))


@token_app.command("revoke")
def token_revoke(token: Annotated[str, A_TOKEN], config: Config = Path("gateway.toml")) -> None:
    """Take a token back, given itself or its id."""
    from truetape.app.cli import token as room

    raise typer.Exit(room.revoke(config, _token(token)))


def main() -> None:
    """The entry point: known errors are one line on stderr, never a traceback."""
    from truetape.app.cli.errors import EXPECTED, explain
    from truetape.app.secrets import redact

    try:
        code = app(standalone_mode=False)  # outside standalone mode an Exit comes back as its code
    except SystemExit as left:
        # typer ends with 1 where the reader of our output went away (`| head`), and shuts stdout's mouth: that is no failure
        code = left.code if sys.stdout is sys.__stdout__ else 0
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except EXPECTED as error:
        code = explain(error)
    except Exception:  # noqa: BLE001  a bug: the traceback is what its report needs, without secrets
        sys.stderr.write(redact(traceback.format_exc()))
        code = 1
    sys.exit(code)
