"""Reading the configuration again while running: symbols, keys and limits are replaced, everything else is refused by name, and an invalid file
changes nothing.

What is checked comes first, as a whole; what is done then cannot fail. Subscriptions are ordered like any consumer's (`wants.py`), so that a
replay follows them. Next door: `live.py` calls on SIGHUP, and `operate.py` on the control socket's `reload`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from truetape.app import secrets
from truetape.app.config import Config, ConfigError, load
from truetape.app.config_serve import ServeConfig
from truetape.app.exposure import certificate, refuse_exposure
from truetape.app.keyring import keyring
from truetape.app.symbols import resolve_all
from truetape.core.feed.plan import Feed
from truetape.core.feed.venue import Want
from truetape.io.obs import log
from truetape.io.serve.tokens import Keyring

if TYPE_CHECKING:
    from truetape.app.live import Gateway

MB = 1_000_000
FREE = ("feeds", "serve", "memory", "loop_lag_ms", "log")
FREE_OF_FEED = ("symbols", "channels")
FREE_OF_SERVE = ("keys", "revoked_file", "token_in_url", "origins", "limits", "coalesce_ms")


def reload(gateway: Gateway) -> dict[str, Any]:
    """Read the gateway's file again. Returns what became of it, for the control socket: `{"ok": true, "added", "removed", "changed"}`, or an
    `error` and then nothing was changed."""
    try:
        if gateway.path is None:
            raise ConfigError("this gateway was not begun from a file, so there is nothing to read again")
        config = load(gateway.path)
        found = _apply(gateway, config)
    except (ConfigError, secrets.SecretError, ValueError) as error:
        why = secrets.redact(str(error))
        log.warning("reload refused", reason=why, kept="the configuration that runs")
        return {"error": f"refused, and nothing was changed: {why}"}
    log.info("reloaded", **found)
    said = [f"{name}: {', '.join(rows)}" for name, rows in found.items() if rows]
    return {"ok": True, **found, "said": said or ["nothing had changed"]}


def _apply(gateway: Gateway, config: Config) -> dict[str, list[str]]:
    old = gateway.config
    changed = differing(old, config)
    _refuse([name for name in changed if name not in FREE], "")
    wanted = _feeds(gateway, old, config)
    how, keys = _serve(old.serve, config.serve)
    added, removed = gateway.wants.configure(wanted)  # the last that may refuse
    gateway.config = config
    if gateway.service is not None and how is not None:
        gateway.service.replace(how, keys)
        if gateway.service.tls is not None and how.tls is not None:
            gateway.service.tls.load_cert_chain(
                how.tls.cert_file, how.tls.key_file
            )  # perhaps renewed: tried a moment ago
        if old.serve is not None and config.serve is not None:
            changed += [f"serve.{name}" for name in differing(old.serve, config.serve)]
    if config.log != old.log:
        log.choose(config.log.level, config.log.format)
    gateway.pulse.guard.budget = config.memory.budget_mb * MB
    gateway.pulse.lag.threshold = round(config.loop_lag_ms * 1e6)
    return {"added": added, "removed": removed, "changed": [name for name in changed if name not in ("feeds", "serve")]}


def differing(old: Struct, new: Struct) -> list[str]:
    """The fields in which two of a kind differ."""
    return [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]


def _refuse(names: list[str], where: str) -> None:
    if names:
        keys = ", ".join(where + name for name in names)
        raise ConfigError(f"{keys}: cannot be changed while running; restart the gateway, or put back what was there")


def _feeds(gateway: Gateway, old: Config, config: Config) -> list[tuple[Feed, tuple[Want, ...]]]:
    """What each running feed shall carry. Raises ConfigError."""
    before = {feed.name: feed for feed in old.feeds}
    after = {feed.name: feed for feed in config.feeds}
    gone, come = [name for name in before if name not in after], [name for name in after if name not in before]
    if gone or come:
        words = ", ".join([f"feed {name} was removed" for name in gone] + [f"feed {name} was added" for name in come])
        raise ConfigError(f"feeds: {words}: whole feeds cannot come or go while running; restart the gateway")
    running = {feed.name: feed for feed in gateway.feeds}
    out = []
    for feed in resolve_all(config):
        fields = differing(before[feed.name], after[feed.name])
        _refuse([name for name in fields if name not in FREE_OF_FEED], f"feeds.{feed.name}.")
        if not fields:
            continue
        if after[feed.name].instruments:
            raise ConfigError(
                f"feeds.{feed.name}.{fields[0]}: a feed with instruments = true spells symbols by a list that was fetched at the start; "
                "restart the gateway, or subscribe over the control socket"
            )
        out.append((running[feed.name], feed.wants))
    return out


def _serve(old: ServeConfig | None, new: ServeConfig | None) -> tuple[ServeConfig | None, Keyring | None]:
    """The service's new table and its keys, all that may fail tried. Raises ConfigError."""
    if (old is None) != (new is None):
        raise ConfigError("serve: the table cannot come or go while running; restart the gateway")
    if old is None or new is None:
        return None, None
    _refuse([name for name in differing(old, new) if name not in FREE_OF_SERVE], "serve.")
    keys = keyring(new)
    refuse_exposure(new, tokens=keys is not None)
    certificate(new)
    return new, keys
