"""What an operator may ask and order over the control socket, one JSON object each. Next door: `live.py` has the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from truetape.app.config import ConfigError
from truetape.app.keys import order
from truetape.app.reload import reload
from truetape.app.view import told
from truetape.io.obs import log
from truetape.io.serve.control import Answer

if TYPE_CHECKING:
    from truetape.app.live import Gateway

OPERATOR = "the control socket"
"""Who holds what was subscribed over the control socket."""


def answer(gateway: Gateway, request: dict[str, Any]) -> Answer:
    """The answer to one request, or what to wait for to have it."""
    verb = request.get("do")
    act = VERBS.get(verb) if isinstance(verb, str) else None
    if act is None:
        known = ", ".join(VERBS)
        return {"error": f"expected do = {known}, found {str(verb)[:80]!r}"}
    return act(gateway, request)


def _drain(gateway: Gateway, _request: dict[str, Any]) -> dict[str, Any]:
    gateway.on_drain()
    return {"ok": True}


def _retry(gateway: Gateway, request: dict[str, Any]) -> dict[str, Any]:
    """An operator's word that what was stopped may be tried again."""
    name = str(request.get("feed", ""))
    links = [link for link in gateway.pump.links.values() if name in ("", link.feed.name)]
    if not links:
        return {"error": f"expected a feed of {', '.join(feed.name for feed in gateway.feeds)}, found {name!r}"}
    stopped = [link.source for link in links if link.session is not None and link.session.state == "STOPPED"]
    for source in stopped:
        gateway.driver.command(order(source))
    return {"ok": True, "connections": stopped}


def _operate(gateway: Gateway, request: dict[str, Any]) -> dict[str, Any]:
    """An operator's subscriptions are held like a consumer's, until they are let go."""
    symbols, channels = request.get("symbols"), request.get("channels", ["book", "trade"])
    if not all(isinstance(rows, list) and all(isinstance(row, str) for row in rows) for rows in (symbols, channels)):
        return {"error": 'expected symbols and channels as lists of texts, such as ["kraken:BTC-USD"] and ["book"]'}
    try:
        gateway.must_run()
        asked = gateway.wants.find(symbols or [], channels)
    except (ConfigError, RuntimeError) as error:
        return {"error": str(error)}
    if request["do"] == "subscribe":
        gateway.wants.hold(OPERATOR, asked)
    else:
        gateway.wants.release(OPERATOR, asked)
    return {
        "ok": True,
        "subscriptions": [f"{kind} {venue}:{symbol}" for kind, venue, symbol in (one.pattern for one in asked)],
    }


def _log(_gateway: Gateway, request: dict[str, Any]) -> dict[str, Any]:
    """Another level, or format, of the logs until the configuration is read again."""
    level, form = request.get("level"), request.get("format", "auto")
    if level not in log.LEVELS or form not in log.FORMATS:
        levels, forms = ", ".join(log.LEVELS), ", ".join(log.FORMATS)
        return {
            "error": f"expected level = {levels} and format = {forms}, found {str(level)[:40]!r} and {str(form)[:40]!r}"
        }
    if not log.choose(level, form):
        return {
            "error": "this gateway runs within a program whose logs are its own; set the level of the logger truetape there"
        }
    log.info("logs changed", to=level, format=form)
    return {"ok": True, "level": level, "format": form}


VERBS: dict[str, Callable[[Gateway, dict[str, Any]], Answer]] = {
    "status": lambda gateway, _request: gateway.status(),
    "subscribe": _operate,
    "unsubscribe": _operate,
    "retry": _retry,
    "book": lambda gateway, request: told(gateway.stream, request),
    "log": _log,
    "drain": _drain,
    "reload": lambda gateway, _request: reload(gateway),
}
