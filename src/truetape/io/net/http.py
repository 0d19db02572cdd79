"""HTTP GET for snapshots and instruments, over aiohttp (9 MB: loaded when something is fetched, for many gateways never do)."""

from __future__ import annotations

import ssl
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from truetape.io.clock import wall_ns
from truetape.io.net.pins import days_left

if TYPE_CHECKING:
    import aiohttp

BODY_MAX = 64 * 1024 * 1024
"""The largest answer that is read; Coinbase's product list is about 1 MB, Binance's exchangeInfo 15 MB."""
RETRY_AFTER_MAX_S = 86_400.0
"""A venue that asks for more is asked again after a day."""


class Answer(Struct):
    """What came back. `status` 0: nothing did, and `body` says why."""

    status: int
    body: bytes
    retry_after_s: float = -1.0
    certificate_days: float | None = None  # how long the venue's certificate is still valid, where it came over TLS


class Getter:
    """One pooled client. Create and close it inside the running loop."""

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> Answer:
        """GET; never raises for what the world may do. Proxies are HTTP proxies here."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s), auto_decompress=True, response_class=_noting()
            )
        try:
            async with self._session.get(url, headers=headers, ssl=ssl_context or True, proxy=proxy) as response:
                days = days_left(getattr(response, "tls", None), wall_ns() / 1e9)
                body = await response.content.read(BODY_MAX + 1)
                while not response.content.at_eof() and len(body) <= BODY_MAX:
                    body += await response.content.read(BODY_MAX + 1 - len(body))
                if len(body) > BODY_MAX:
                    return Answer(0, f"more than {BODY_MAX} bytes".encode())
                after = retry_after(response.headers.get("Retry-After", ""))
                return Answer(response.status, body, after, days)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Answer(0, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))

    async def close(self) -> None:
        """Close pooled connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@cache
def _noting() -> type[aiohttp.ClientResponse]:
    """A response that keeps its TLS object: one whose body came with its head has let go of its connection before we can ask."""
    import aiohttp

    class Noting(aiohttp.ClientResponse):
        tls: Any = None

        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            self.tls = connection.transport.get_extra_info("ssl_object") if connection.transport is not None else None
            return await super().start(connection)

    return Noting


def retry_after(text: str) -> float:
    """Seconds of a Retry-After header, which has seconds or a date; -1 without one that can be read."""
    if text.replace(".", "", 1).isdecimal():
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        left = parsedate_to_datetime(text).timestamp() - wall_ns() / 1e9
    except (ValueError, OverflowError):
        return -1.0
    return min(max(0.0, left), RETRY_AFTER_MAX_S)
