"""One HTTP request, for readers of a transparency log and for its witnesses: no redirects, bounded in size."""

from __future__ import annotations

import functools
import ssl
from urllib.parse import urlsplit

from meshtls.address import Address
from meshtls.http_client import HttpClient, HttpClientError, HttpResponse

__all__ = ["HttpFailureError", "http_exchange"]

_LONGEST = 32 * 1024 * 1024  # a bundle of 256 entries of 64 KiB each


class HttpFailureError(Exception):
    """There was no answer, or an invalid one."""


async def http_exchange(method: str, url: str, body: bytes = b"") -> HttpResponse:
    """Send one request, over TLS with the system's roots for https. The caller sets the timeout.

    Raises HttpFailureError.
    """
    parts = urlsplit(url)
    tls = _system_roots() if parts.scheme == "https" else None
    address = Address(parts.hostname or "", parts.port or (443 if tls else 80))
    headers = (("Host", parts.netloc), ("Connection", "close"))
    async with HttpClient(address, tls=tls, largest=_LONGEST) as client:
        try:
            return await client.request(method, parts.path or "/", headers, body)
        except HttpClientError as error:
            raise HttpFailureError(f"{url}: {error}") from error


@functools.cache
def _system_roots() -> ssl.SSLContext:
    return ssl.create_default_context()  # once: it takes tens of milliseconds, in which nothing else runs
