"""HTTP GET for snapshots and instruments, over aiohttp (9 MB: loaded when something is fetched, for many gateways never do)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import aiohttp

BODY_MAX = 64 * 1024 * 1024
"""The largest answer that is read; Coinbase's product list is about 1 MB, Binance's exchangeInfo 15 MB."""


class Answer(Struct):
    """What came back. `status` 0: nothing did, and `body` says why."""

    status: int
    body: bytes
    retry_after_s: float = -1.0


class Getter:
    """One pooled client. Create and close it inside the running loop."""

    def __init__(
        self, timeout_s: float = 10.0, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._ssl = ssl_context
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, headers: dict[str, str] | None = None) -> Answer:
        """GET; never raises for what the world may do."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s), auto_decompress=True
            )
        try:
            async with self._session.get(url, headers=headers, ssl=self._ssl or True, proxy=self._proxy) as response:
                body = await response.content.read(BODY_MAX + 1)
                while not response.content.at_eof() and len(body) <= BODY_MAX:
                    body += await response.content.read(BODY_MAX + 1 - len(body))
                if len(body) > BODY_MAX:
                    return Answer(0, f"more than {BODY_MAX} bytes".encode())
                return Answer(response.status, body, _retry_after(response.headers.get("Retry-After", "")))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Answer(0, f"{type(error).__name__}: {error}".encode())

    async def close(self) -> None:
        """Close pooled connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _retry_after(text: str) -> float:
    return float(text) if text.replace(".", "", 1).isdecimal() else -1.0
