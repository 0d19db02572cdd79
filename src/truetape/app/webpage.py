"""The page at `/`: its files, read once, under a policy that lets a browser speak with nobody but this gateway.

Next door: `pages.py` has the other GETs; `web/` the page itself, which reads the stream like any client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from truetape.io.serve.gateway import Answer, Request

FOLDER = Path(__file__).parent / "web"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{stream}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:]{2,45}\](:\d{1,5})?")


@cache
def files() -> Mapping[str, tuple[bytes, str]]:
    """By path: bytes, and what they are."""
    found = {
        f"/web/{path.name}": (path.read_bytes(), f"{KINDS[path.suffix]}; charset=utf-8")
        for path in sorted(FOLDER.iterdir())
        if path.suffix in KINDS
    }
    return {"/": found["/web/index.html"], **found}


def serve(request: Request, *, tls: bool) -> Answer:
    """A file of the page. The path must be one of `files`."""
    body, kind = files()[request.path]
    return Answer(200, body, {"Content-Type": kind, **headers(request, tls=tls)})


def headers(request: Request, *, tls: bool) -> dict[str, str]:
    """No inline code, no other address. Where `'self'` does not cover the WebSocket (older browsers), its address is named."""
    host = request.headers.get("host", "")
    stream = f" {'wss' if tls else 'ws'}://{host}" if HOST.fullmatch(host) else ""
    return {
        "Content-Security-Policy": POLICY.format(stream=stream),
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
