"""From the configuration's keys to a keyring. Next door: `serve.py` checks tokens with it, `cli/token.py` issues them."""

from __future__ import annotations

from collections.abc import Mapping

from truetape.app.config import ConfigError
from truetape.app.config_serve import KeyConfig, ServeConfig
from truetape.app.secrets import Secret, SecretError
from truetape.core.serve.claims import EVERYONE, Claims
from truetape.core.serve.peer import Refused
from truetape.io.serve.tokens import BadKey, Key, Keyring


def keyring(how: ServeConfig) -> Keyring | None:
    """The keys of a `[serve]` table; None where it has none. Raises ConfigError, which never shows a key."""
    if not how.keys:
        return None
    ids = [key.id for key in how.keys]
    if len(set(ids)) < len(ids):
        raise ConfigError("serve.keys: expected unique ids, so that a token's key is known")
    try:
        return Keyring([_key(row) for row in how.keys])
    except (BadKey, SecretError) as error:
        raise ConfigError(f"serve.keys: {error}") from None


def _key(row: KeyConfig) -> Key:
    if row.alg == "HS256":
        if not row.secret or row.public or row.private:
            raise BadKey(f'key {row.id}: expected secret = "env:NAME" or "file:/path", and nothing else, for HS256')
        reveal = Secret(row.secret).reveal
        return Key(row.id, row.alg, reveal, reveal)
    if not row.public or row.secret:
        raise BadKey(f'key {row.id}: expected public = "file:/path" (and private where tokens are issued) for EdDSA')
    return Key(row.id, row.alg, Secret(row.public).reveal, Secret(row.private).reveal if row.private else None)


def unfounded(claims: Claims, before: Keyring | None, now: Keyring | None) -> str:
    """Why somebody who was let in with these may not stay after the keys were replaced; empty where they may."""
    if now is None:
        return ""
    if claims is EVERYONE:
        return "expected a token: this gateway asks for them now"
    if before is None or not now.has(claims.key, before):
        return f"the key that signed the token of {claims.name} was replaced"
    return ""


def bearer(headers: Mapping[str, str]) -> str:
    """The token of an Authorization header. Raises Refused."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise Refused("bad_token", "expected Authorization: Bearer <token>")
    return token.strip()
