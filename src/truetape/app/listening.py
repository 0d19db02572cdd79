"""Whether a gateway could listen where its configuration says: `truetape doctor` may be asked before it starts, or beside it.

Who answers at the control socket is the gateway of this configuration; the system tells its process, and by that its other socket is known.
Next door: `doctor.py` looks at everything else.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from msgspec import Struct

from truetape.app.config import Config
from truetape.app.finding import Finding
from truetape.io.serve.control import ControlError, ask

CREDENTIALS = struct.Struct("3i")
"""Process, user and group of who is at the other end of a Unix socket (unix(7), SO_PEERCRED)."""


class Running(Struct, frozen=True):
    """A gateway that answers: its process (0: of another namespace), for how long it has run, and its data port (0: none)."""

    pid: int
    uptime_s: float
    port: int
    version: str

    def __str__(self) -> str:
        process = f" as process {self.pid}" if self.pid else ""
        return f"truetape {self.version} runs here{process}, up for {self.uptime_s:,.0f} s"


def found(config: Config) -> Running | None:
    """The gateway of this configuration, where one answers at its control socket."""
    if config.control is None:
        return None
    path = Path(config.control.socket)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
            pid = peer(probe)
        told = ask(path, {"do": "status"})
        return Running(pid, float(told["uptime_s"]), int(told["data_port"] or 0), str(told["version"]))
    except (OSError, ControlError, KeyError, TypeError, ValueError):
        return None  # nobody, or something else: what is found there is told as such


def peer(connected: socket.socket) -> int:
    """The process at the other end."""
    pid, _, _ = CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return int(pid)


def ports(config: Config) -> list[Finding]:
    """Whether what is to be listened on is free, or taken by this very gateway, which runs."""
    out = []
    running = found(config)
    if running is not None:
        out.append(Finding("gateway", "ok", str(running)))
    if config.serve is not None and config.serve.port:
        where = f"{config.serve.host}:{config.serve.port}"
        try:
            family = socket.AF_INET6 if ":" in config.serve.host else socket.AF_INET
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((config.serve.host, config.serve.port))
            out.append(Finding("data port", "ok", f"{where} is free"))
        except OSError as error:
            if running is not None and running.port == config.serve.port:
                out.append(Finding("data port", "ok", f"{where}: the gateway of this configuration"))
            else:
                why, todo = error.strerror or error, "stop what listens there, or set another [serve] port"
                out.append(Finding("data port", "fail", f"{where}: {why}", todo))
    named = {
        "control socket": config.control.socket if config.control is not None else "",
        "unix socket": config.serve.socket if config.serve else "",
    }
    for name, text in named.items():
        if text:
            out.append(_socket(name, Path(text), running))
    return out


def _socket(name: str, path: Path, running: Running | None) -> Finding:
    if path.exists() or path.is_symlink():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except OSError:
                return Finding(name, "ok", f"{path}: an old one, that is replaced")
            if running is not None and peer(probe) == running.pid:
                return Finding(name, "ok", f"{path}: the gateway of this configuration")
        return Finding(name, "fail", f"{path}: a gateway answers there", "stop it, or set another path")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(there, os.W_OK):
        return Finding(
            name, "fail", f"{there}: cannot be written to", "let the gateway's user write there, or set another path"
        )
    return Finding(name, "ok", f"{path} is free")
