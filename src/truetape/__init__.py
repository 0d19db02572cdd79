"""truetape: a market data gateway that knows what it lost, how far its books can be believed, and can prove it.

    async with truetape.open("gateway.toml") as gw:
        async for event in gw.subscribe("binance:BTC-USDT", ["book", "trade"], mode=truetape.conflate(ms=2)):
            ...

The package's front door: names below are loaded when first used, so that the command line stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from truetape.app.client import Client
    from truetape.app.client import open_client as client
    from truetape.app.config import ConfigError
    from truetape.app.hub import ClientError
    from truetape.app.live import Closed, Gateway, Subscription
    from truetape.app.live import open_gateway as open  # noqa: A004  the word users expect
    from truetape.app.remote import ClientSubscription
    from truetape.app.tables import Events
    from truetape.app.view import BookView, NotLive
    from truetape.core.route.modes import conflate, disconnect, drop_newest, drop_oldest, max_age
    from truetape.model.event import Bar, Book, Gap, Lagged, Ledger, Quote, Status, Ticker, Trade

_HOMES = {
    "truetape.app.client": ("Client",),
    "truetape.app.hub": ("ClientError",),
    "truetape.app.remote": ("ClientSubscription",),
    "truetape.app.tables": ("Events",),
    "truetape.app.config": ("ConfigError",),
    "truetape.app.live": ("Closed", "Gateway", "Subscription"),
    "truetape.app.view": ("BookView", "NotLive"),
    "truetape.core.route.modes": ("conflate", "disconnect", "drop_newest", "drop_oldest", "max_age"),
    "truetape.model.event": ("Bar", "Book", "Gap", "Lagged", "Ledger", "Quote", "Status", "Ticker", "Trade"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Bar", "Book", "BookView", "Client", "ClientError", "ClientSubscription", "Closed", "ConfigError", "Events", "Gap", "Gateway", "Lagged",
    "Ledger", "NotLive", "Quote", "Status", "Subscription", "Ticker", "Trade", "client", "conflate", "disconnect", "drop_newest",
    "drop_oldest", "max_age", "open",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "open":
        found = importlib.import_module("truetape.app.live").open_gateway
    elif name == "client":
        found = importlib.import_module("truetape.app.client").open_client
    elif name in _WHERE:
        found = getattr(importlib.import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'truetape' has no attribute {name!r}")
    globals()[name] = found  # looked up once: the next use is as quick as any name
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
