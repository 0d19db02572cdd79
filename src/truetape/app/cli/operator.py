"""`truetape drain` and `reload`: orders to a running gateway over its control socket."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from truetape.io.serve.control import ask

PATIENCE_S = 30.0
"""A reload may wait for lists of instruments."""


def order(socket: Path, request: dict[str, Any], as_json: bool) -> int:
    """Exit code 0 where it was followed, 1 where not. Raises ControlError."""
    answer = ask(socket, request, PATIENCE_S)
    if as_json:
        print(msgspec.json.encode(answer).decode())
    if (error := answer.get("error")) is not None:
        print(f"truetape: {error}", file=sys.stderr)
        return 1
    for line in answer.get("said", [f"{request['do']}: ok"]):
        print(line, file=sys.stderr)
    return 0
