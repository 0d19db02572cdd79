"""`truetape token`: issue, inspect and revoke, with the keys of a configuration."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from truetape.app.config import ConfigError, load
from truetape.app.config_serve import ServeConfig
from truetape.app.keyring import keyring
from truetape.core.serve.claims import ROLES, BadPattern, Claims, Role
from truetape.core.serve.peer import Refused
from truetape.io.clock import wall_ns
from truetape.io.serve.tokens import BadKey, Keyring, Revoked

SECOND = 1_000_000_000
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
TTL_MAX_S = 366 * 86_400
NAME_MAX = 100


def _keys(config: Path) -> tuple[ServeConfig, Keyring]:
    how = load(config).serve
    keys = keyring(how) if how is not None else None
    if how is None or keys is None:
        raise ConfigError(
            f"{config}: expected [[serve.keys]] with an id and a secret, found none; make a secret with: openssl rand -hex 32"
        )
    return how, keys


def ttl(text: str) -> int:
    """Seconds of `90s`, `15m`, `12h`, `30d`. Raises ConfigError."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None or not 0 < (seconds := int(found[1]) * UNITS[found[2]]) <= TTL_MAX_S:
        raise ConfigError(f"--ttl: expected a time such as 90s, 15m, 12h or 30d, at most 366d, found {text[:20]!r}")
    return seconds


def issue(config: Path, name: str, role: str, allow: list[str], life: str, key: str) -> int:
    """Print a token on stdout, and what it grants on stderr."""
    if role not in ROLES:
        raise ConfigError(f"--role: expected one of {', '.join(ROLES)}, found {role[:40]!r}")
    if not name.strip() or not name.isprintable() or len(name) > NAME_MAX:
        raise ConfigError(
            f"expected a name of 1 to {NAME_MAX} printable characters (logs, /clients and limits show it), found {name[:40]!r}"
        )
    known: Role = role
    _, keys = _keys(config)
    now = wall_ns()
    expires = now + ttl(life) * SECOND
    try:
        token, number = keys.issue(name, known, allow, expires, now, key)
    except (BadKey, BadPattern) as error:
        raise ConfigError(str(error)) from None
    print(token)
    what = f"everything ({', '.join(allow)})" if "*" in allow else ", ".join(allow) or "nothing"
    narrower = "; --allow and --ttl make it less" if "*" in allow else ""
    print(
        f"{name}: role {role}, may read {what}, for {life} until {_date(expires)}, id {number}{narrower}",
        file=sys.stderr,
    )
    return 0


def _read(config: Path, token: str) -> tuple[ServeConfig, Claims | None, str]:
    how, keys = _keys(config)
    try:
        claims = keys.claims(token, wall_ns())
    except Refused as error:
        return how, None, f"{error.reason}: {error}"
    revoked = Revoked(Path(how.revoked_file))
    revoked.look()
    return how, claims, "revoked" if claims.id in revoked.ids else ""


def inspect(config: Path, token: str, as_json: bool) -> int:
    """What a token grants: exit 0 where it would be taken, else 1 and why not."""
    _, claims, why = _read(config, token)
    tree = {"valid": not why, "reason": why, **(msgspec.to_builtins(claims) if claims is not None else {})}
    if as_json:
        print(msgspec.json.encode(tree).decode())
    elif claims is not None:
        print(f"name     {claims.name}\nrole     {claims.role}\nallow    {', '.join(claims.allow)}")
        print(f"expires  {_date(claims.expires)}\nid       {claims.id}\nvalid    {'no: ' + why if why else 'yes'}")
    else:
        print(f"valid    no: {why}")
    return 1 if why else 0


def revoke(config: Path, token: str) -> int:
    """Take a token back, by itself or by its id; running gateways obey within five seconds."""
    if re.fullmatch(r"[0-9a-f]{16}", token):
        how, _ = _keys(config)
        number, whose = token, "by id"
    else:
        how, claims, why = _read(config, token)
        if claims is None:
            raise ConfigError(f"token revoke: expected a token of this gateway or its id: {why}")
        number, whose = claims.id, claims.name
    Revoked(Path(how.revoked_file)).add(number, f"{whose}, {_date(wall_ns())}")
    print(f"revoked {number} ({whose}) in {how.revoked_file}", file=sys.stderr)
    return 0


def _date(ns: int) -> str:
    return datetime.fromtimestamp(ns / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
