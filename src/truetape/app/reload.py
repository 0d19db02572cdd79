"""Reading the configuration again while running: feeds, sinks, keys and limits are replaced, what else differs is refused by name, and an
invalid file changes nothing.

    SIGHUP, control socket ─► Reloads (one at a time) ─► read, fetch lists of instruments ─► try everything ─► do it, in one turn of the loop

What is done after the last check cannot fail. Feeds come and go, and subscriptions are ordered, by commands, so that a replay follows them.
Next door: `changes.py` finds what differs; `live.py`, `wants.py`, `sinks.py` and `serve.py` each do their part.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from truetape.app import secrets
from truetape.app.changes import Changes, changes, differing, lists, try_natives, try_sinks
from truetape.app.config import Config, ConfigError, load
from truetape.app.config_serve import ServeConfig
from truetape.app.exposure import certificate, refuse_exposure
from truetape.app.header import encode_feed
from truetape.app.keyring import keyring
from truetape.core.route.roster import Dropped, Fed
from truetape.io.obs import log
from truetape.io.serve.tokens import Keyring
from truetape.model.instrument import Instrument

if TYPE_CHECKING:
    from truetape.app.live import Gateway

MB = 1_000_000
FREE = ("feeds", "sinks", "serve", "memory", "loop_lag_ms", "log")
FREE_OF_SERVE = ("keys", "revoked_file", "token_in_url", "origins", "limits", "coalesce_ms")
ENDS = "the gateway ends: nothing is read again"


class Reloads:
    """One at a time; whoever asks while one waits for its turn gets that one's answer, for the file is read after both."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Task[dict[str, Any]] | None = None
        self._tasks: dict[asyncio.Task[dict[str, Any]], None] = {}

    def soon(self, group: asyncio.TaskGroup) -> asyncio.Task[dict[str, Any]]:
        """Have the file read in a task of its own."""
        if self._waiting is None:
            task = self._waiting = group.create_task(self._run())
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)
        return self._waiting

    async def _run(self) -> dict[str, Any]:
        async with self._turn:
            self._waiting = None
            return await _reload(self._gateway)

    def end(self) -> None:
        """Nobody waits for a venue's list any more."""
        self._waiting = None
        for task in list(self._tasks):
            task.cancel()


async def reload(gateway: Gateway) -> dict[str, Any]:
    """Read the gateway's file again. Returns what became of it, for the control socket: `{"ok": true, "added", "removed", "changed"}`, or an
    `error` and then nothing was changed."""
    task = gateway.reload_soon()
    if task is None:
        return {"error": ENDS}
    await asyncio.wait((task,))  # who asked may go; it is done all the same
    return {"error": ENDS} if task.cancelled() else task.result()


async def _reload(gateway: Gateway) -> dict[str, Any]:
    try:
        if gateway.path is None:
            raise ConfigError("this gateway was not begun from a file, so there is nothing to read again")
        config = load(gateway.path)
        _refuse([name for name in differing(gateway.config, config) if name not in FREE], "")
        listed = await lists(gateway, config)
        if not gateway.runs:
            raise ConfigError(ENDS)
        found = _apply(gateway, config, listed)
    except (ConfigError, secrets.SecretError, ValueError) as error:
        why = secrets.redact(str(error))
        log.warning("reload refused", reason=why, kept="the configuration that runs")
        return {"error": f"refused, and nothing was changed: {why}"}
    log.info("reloaded", **found)
    said = [f"{name}: {', '.join(rows)}" for name, rows in found.items() if rows]
    return {"ok": True, **found, "said": said or ["nothing had changed"]}


def _apply(gateway: Gateway, config: Config, listed: dict[str, list[Instrument]]) -> dict[str, list[str]]:
    """Everything that may be refused, then everything that is done."""
    old = gateway.config
    found = changes(gateway, config, listed)
    how, keys = _serve(old.serve, config.serve)
    try_natives(how.native if how is not None else (), config)
    try_sinks(gateway, config, found)
    added, removed = gateway.wants.configure(
        [(feed, anew.wants) for feed, anew in found.kept]
    )  # the last that may refuse
    gateway.config = config
    _run_feeds(gateway, found)
    if gateway.service is not None and how is not None:
        gateway.service.replace(how, keys)
        if gateway.service.tls is not None and how.tls is not None:
            # perhaps renewed: tried a moment ago
            gateway.service.tls.load_cert_chain(how.tls.cert_file, how.tls.key_file)
    sinks = gateway.sinks.replace(config.sinks)
    if config.log != old.log:
        log.choose(config.log.level, config.log.format)
    gateway.pulse.guard.budget = config.memory.budget_mb * MB
    gateway.pulse.lag.threshold = round(config.loop_lag_ms * 1e6)
    made = [f"feed {feed.name}" for feed, _, why in found.fed if not why]
    changed = [name for name in differing(old, config) if name not in ("feeds", "serve", "sinks")]
    if old.serve is not None and config.serve is not None:
        changed += [f"serve.{name}" for name in differing(old.serve, config.serve)]
    return {
        "added": [*made, *added, *sinks.added],
        "removed": [*(f"feed {name}" for name in found.dropped), *removed, *sinks.removed],
        "changed": [*found.told, *changed, *sinks.changed],
    }


def _run_feeds(gateway: Gateway, found: Changes) -> None:
    """Run these no more, and those from now on, each in the place of one of its name. All was tried."""
    before, refused = {feed.name: feed for feed in gateway.feeds}, gateway.pump.refused
    for name in found.dropped:
        gateway.driver.command(msgspec.json.encode(Dropped(name)))
        del gateway.dialings[name]
    for feed, how, why in found.fed:
        gateway.dialings[feed.name] = how
        gateway.driver.command(msgspec.json.encode(Fed(msgspec.Raw(encode_feed(feed)), why)))
    assert gateway.pump.refused == refused, "cannot happen because everything was tried before"
    gateway.feeds[:] = gateway.pump.feeds
    gateway.wants.renew(before, [*found.dropped, *(feed.name for feed, _, _ in found.fed)])
    if gateway.service is not None:
        gateway.service.natives.renew()


def _refuse(names: list[str], where: str) -> None:
    if names:
        keys = ", ".join(where + name for name in names)
        raise ConfigError(f"{keys}: cannot be changed while running; restart the gateway, or put back what was there")


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
