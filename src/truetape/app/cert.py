"""Certificates for a simulator that serves with TLS: made by the `openssl` command, kept in a folder, good for the loopback only.

ca.pem       what a client trusts (`ca_file`): the first and the second
first.pem    what is shown at the beginning; second.pem after `cert-swap`; unknown.pem after `cert-swap=1`
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

from truetape.app.config import ConfigError

NAMES = ("first", "second", "unknown")
DAYS = "365"
HOSTS = "subjectAltName=IP:127.0.0.1,DNS:localhost"


def make(folder: Path) -> None:
    """Make what is missing. Raises ConfigError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            if not (folder / f"{name}.pem").exists():
                _openssl(
                    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", DAYS,
                    "-subj", f"/CN=truetape simulator {name}", "-addext", HOSTS,
                    "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem"),
                )  # fmt: skip
        (folder / "ca.pem").write_text("".join((folder / f"{name}.pem").read_text() for name in NAMES[:2]))
    except OSError as error:
        raise ConfigError(f"tls: certificates cannot be kept in {folder}: {error.strerror or error}") from None


def pin(folder: Path, name: str) -> str:
    """`sha256/…` of a certificate's public key (SPKI), as a feed's `pins` take it."""
    key = _openssl("x509", "-in", str(folder / f"{name}.pem"), "-noout", "-pubkey")
    der = _openssl("pkey", "-pubin", "-outform", "DER", given=key)
    return "sha256/" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True, timeout=30)
    except FileNotFoundError:
        raise ConfigError("tls: expected the command openssl, which makes the certificates; found none") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode("utf-8", "replace").strip().splitlines()[-1:]
        raise ConfigError(f"tls: openssl {arguments[0]} failed: {''.join(said)}") from None
    return done.stdout
