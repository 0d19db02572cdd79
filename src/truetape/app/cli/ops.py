"""Commands for whoever operates a gateway: their options. Each imports what it needs when it is called. Next door: `operator.py` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SOCKET = Path("run/truetape.sock")
Socket = Annotated[Path, typer.Option(help="the gateway's control socket")]
AsJson = Annotated[bool, typer.Option("--json", help="the last line of stdout is one JSON object")]


def add(app: typer.Typer) -> None:
    """Give the program these commands."""
    app.command()(drain)
    app.command()(reload)
    app.command()(doctor)
    app.command()(log)


def drain(socket: Socket = SOCKET, json: AsJson = False) -> None:
    """Ask a running gateway to end in order: not ready, clients told when to come back, the tape flushed."""
    from truetape.app.cli import operator as room

    raise typer.Exit(room.order(socket, {"do": "drain"}, json))


def reload(socket: Socket = SOCKET, json: AsJson = False) -> None:
    """Have a running gateway read its configuration again, as SIGHUP does: feeds, sinks, keys and limits; exit 1 where it was refused."""
    from truetape.app.cli import operator as room

    raise typer.Exit(room.order(socket, {"do": "reload"}, json))


def doctor(
    config: Annotated[Path, typer.Argument(help="the gateway's TOML file")] = Path("gateway.toml"), json: AsJson = False
) -> None:
    """Look at what a gateway needs: names, TLS, pins, clock, files, disk, memory, ports, keys; exit 1 where something fails."""
    from truetape.app.cli import doctor as room

    raise typer.Exit(room.doctor(config, json))


def log(
    level: Annotated[str, typer.Argument(help="debug, info, warning or error")],
    form: Annotated[str, typer.Option("--format", help="json, console or auto")] = "auto",
    socket: Socket = SOCKET,
    json: AsJson = False,
) -> None:
    """Change how much a running gateway logs, and how."""
    from truetape.app.cli import operator as room
    from truetape.app.config import ConfigError
    from truetape.io.obs.log import FORMATS, LEVELS

    for word, known, what in ((level, LEVELS, "level"), (form, FORMATS, "--format")):
        if word not in known:
            raise ConfigError(f"log: expected {what} = {', '.join(known)}, found {word[:40]!r}")
    raise typer.Exit(room.order(socket, {"do": "log", "level": level, "format": form}, json))
