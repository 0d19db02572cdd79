"""The options of `truetape top`, apart from what it needs to run: `--help` is quick. Next door: `top.py` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def top(
    url: Annotated[
        str, typer.Option(help="a gateway elsewhere: ws://host:port or wss://…; without it, the control socket")
    ] = "",
    socket: Annotated[Path, typer.Option(help="the gateway's control socket")] = Path("run/truetape.sock"),
    token: Annotated[
        str,
        typer.Option(help="of role ops or admin, where one is asked for; better env:NAME or file:/path than its text"),
    ] = "",
    ca_file: Annotated[Path | None, typer.Option(help="with wss: believe these certificates (PEM)")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="end by itself after so many seconds")] = 0,
) -> None:
    """Watch a running gateway: health, a book, connections, clients, events; the web page in a terminal."""
    from truetape.app.cli import top as room

    raise typer.Exit(room.top(url, socket, token, ca_file, seconds))
