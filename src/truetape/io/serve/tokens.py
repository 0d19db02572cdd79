"""Signed tokens: issued and checked with keys that the configuration names, several at once so that keys can be changed; and those taken back.

A token is a JWT whose header names its key (`kid`), and each key has one algorithm: what a token says of its own algorithm is never believed.
Next door: `core.serve.claims` says what claims mean.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from truetape.core.serve.claims import ROLES, BadPattern, Claims, Role, parse
from truetape.core.serve.peer import Refused

SECOND = 1_000_000_000
ISSUER = "truetape"
SECRET_MIN = 32
Algorithm: TypeAlias = Literal["HS256", "EdDSA"]


class BadKey(Exception):
    """A key that cannot be used: names it and what was expected, never its text."""


class Key(Struct, frozen=True):
    """`check` gives the secret (HS256) or the public key in PEM (EdDSA), `sign` the secret or the private key; None where it is not here."""

    id: str
    algorithm: Algorithm
    check: Callable[[], str]
    sign: Callable[[], str] | None = None


class Keyring:
    """The keys, by their ids; the first that can sign issues new tokens."""

    def __init__(self, keys: Sequence[Key]) -> None:
        import jwt  # with its cryptography 10 MB, which a gateway without tokens need not have

        self._jwt = jwt
        self._keys = {key.id: key for key in keys}
        self._texts: dict[str, Any] = {}
        for key in keys:
            text = key.check()
            if key.algorithm == "HS256" and len(text.encode()) < SECRET_MIN:
                raise BadKey(
                    f"key {key.id}: expected a secret of at least {SECRET_MIN} bytes; make one with: openssl rand -hex 32"
                )
            try:
                self._texts[key.id] = jwt.get_algorithm_by_name(key.algorithm).prepare_key(text)
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                raise BadKey(
                    f"key {key.id}: expected a public key for {key.algorithm} in PEM: {type(error).__name__}"
                ) from None

    def has(self, id_: str, other: Keyring) -> bool:
        """Whether this key is here, and the same as in the other ring."""
        return id_ in self._texts and self._texts[id_] == other._texts.get(id_)

    def issue(
        self, name: str, role: Role, allow: Sequence[str], expires: int, now: int, key_id: str = ""
    ) -> tuple[str, str]:
        """A token and its id. `expires` ns. Raises BadKey where no key can sign, BadPattern."""
        for pattern in allow:
            parse(pattern)
        able = [key for key in self._keys.values() if key.sign is not None and key_id in ("", key.id)]
        if not able or able[0].sign is None:
            raise BadKey(f"expected a key that can sign, found none{f' called {key_id}' if key_id else ''}")
        key, sign = able[0], able[0].sign
        number = secrets.token_hex(8)
        body = {
            "iss": ISSUER, "sub": name, "role": role, "allow": list(allow), "iat": now // SECOND, "exp": expires // SECOND, "jti": number,
        }  # fmt: skip
        return self._jwt.encode(body, sign(), algorithm=key.algorithm, headers={"kid": key.id}), number

    def claims(self, token: str, now: int) -> Claims:
        """What a token grants, its signature and times checked. Raises Refused: bad_token, expired."""
        jwt = self._jwt
        try:
            head = jwt.get_unverified_header(token)
            key = self._keys.get(head.get("kid", ""))
            if key is None or head.get("alg") != key.algorithm:
                raise Refused("bad_token", "the token names no key of this gateway")
            body = jwt.decode(
                token, self._texts[key.id], algorithms=[key.algorithm], issuer=ISSUER,
                # times are judged by our own clock, below
                options={"require": ["sub", "exp", "jti"], "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )  # fmt: skip
        except (
            jwt.PyJWTError,
            ValueError,
            RecursionError,
        ) as error:  # the latter two: letters that are none, lists in lists
            raise Refused("bad_token", f"the token is not one of ours: {type(error).__name__}") from None
        return _claims(body, key.id, now)


def _claims(body: dict[str, Any], key: str, now: int) -> Claims:
    name, role, allow, expires, number = (body.get(field) for field in ("sub", "role", "allow", "exp", "jti"))
    if (
        not isinstance(name, str) or role not in ROLES or not isinstance(allow, list) or not isinstance(number, str)
        or not isinstance(expires, int) or not 0 < expires < 1 << 33
    ):  # fmt: skip
        raise Refused("bad_token", "the token's claims are not those of a token of ours")
    try:
        for pattern in allow:
            parse(pattern)
    except (BadPattern, TypeError):
        raise Refused("bad_token", "the token allows what is no pattern") from None
    if now >= expires * SECOND:
        raise Refused("expired", f"the token of {name} has expired")
    return Claims(name, role, tuple(allow), expires * SECOND, number, key)


class Revoked:
    """Ids of tokens that were taken back: a file, one id a line, read again when it changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: frozenset[str] = frozenset()
        self._seen: tuple[int, int] | None = None

    def look(self) -> bool:
        """Read it if it changed; True when it did. A file that is not there takes nothing back; one that cannot be read changes nothing."""
        try:
            found = self.path.stat()
            seen = (found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return False
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            changed, self.ids, self._seen = bool(self.ids), frozenset(), None
            return changed
        except (OSError, UnicodeDecodeError):
            return False
        self._seen = seen
        self.ids = frozenset(line.partition("#")[0].strip() for line in lines) - {""}
        return True

    def add(self, number: str, why: str) -> None:
        """Take one back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{number}  # {why}\n")
