"""One key set from its ``jwksUri``: HTTPS, bounded in time, size and redirects."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from meshtls.address import Address, is_loopback
from meshtls.errors import ConfigError, RequestError
from meshtls.http_client import HttpClient, HttpClientError, HttpResponse
from meshtls.policy.jwt.key_set import MAX_KEY_SET_BYTES, KeySet, read_key_set
from meshtls.redaction import shown_url
from meshtls.request_auth.settings import KeySetSettings

__all__ = ["FetchedKeySet", "Fetcher"]

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"https": 443, "http": 80}
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?([0-9]{1,10})", re.IGNORECASE | re.ASCII)
_NOT_STORED = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?:$|[\s,])", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class FetchedKeySet:
    """``max_age``: seconds for which the server lets it be kept; None where it does not say."""

    keys: KeySet
    max_age: int | None


class Fetcher:
    """Fetches as the settings allow. Raises ConfigError for a ``ca_file`` that can't be read."""

    def __init__(self, settings: KeySetSettings) -> None:
        self._plaintext = settings.insecure_fetch_over_plaintext
        try:
            self._tls = ssl.create_default_context(cafile=settings.ca_file)
        except OSError as error:
            raise ConfigError(
                f"{settings.ca_file}: wanted certificates in PEM, to verify the server of a jwksUri: {error}"
            ) from error

    def check(self, uri: str) -> SplitResult:
        """The parts of an address that may be fetched from. Raises RequestError that says why another may not."""
        try:
            parts = urlsplit(uri)
            port = parts.port
        except ValueError as error:
            raise RequestError(f"wanted an https:// address of a key set, got {shown_url(uri)}") from error
        if parts.scheme not in _PORTS or not parts.hostname or port == 0 or not uri.isascii() or not uri.isprintable():
            raise RequestError(f"wanted an https:// address of a key set, got {shown_url(uri)}")
        if " " in uri or "@" in parts.netloc:
            raise RequestError(f"wanted an address of a key set without spaces and passwords, got {shown_url(uri)}")
        if parts.scheme == "http" and not self._plaintext and not is_loopback(parts.hostname):
            raise RequestError(
                f"wanted https:// for a key set on another host, got {shown_url(uri)}: an attacker on the network"
                " path could sign tokens; insecure_fetch_over_plaintext allows it"
            )
        return parts

    async def fetch(self, uri: str, timeout: float) -> FetchedKeySet:
        """Fetch the key set, with redirects, within ``timeout`` seconds. Raises RequestError or HttpClientError."""
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(uri)
        except TimeoutError as error:
            raise HttpClientError(f"no answer within {timeout:g} s") from error

    async def _follow(self, uri: str) -> FetchedKeySet:
        secure = self.check(uri).scheme == "https"
        for _ in range(_MAX_REDIRECTS + 1):
            parts = self.check(uri)
            if secure and parts.scheme != "https":
                raise RequestError(f"it was redirected from https:// to {shown_url(uri)}")
            response = await self._get(parts)
            location = response.header("location")
            if response.status not in _REDIRECTS or location is None:
                return _read(response)
            try:
                uri = urljoin(uri, location)
            except ValueError as error:
                raise RequestError(f"it was redirected to {shown_url(location)}, which is no URL") from error
        raise RequestError(f"it was redirected more than {_MAX_REDIRECTS} times")

    async def _get(self, parts: SplitResult) -> HttpResponse:
        address = Address(str(parts.hostname), parts.port or _PORTS[parts.scheme])
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = (("Host", parts.netloc), ("Accept", "application/json"), ("Connection", "close"))
        tls = self._tls if parts.scheme == "https" else None
        async with HttpClient(address, tls=tls, largest=MAX_KEY_SET_BYTES) as client:
            return await client.request("GET", target, headers)


def _read(response: HttpResponse) -> FetchedKeySet:
    if response.status != 200:
        raise RequestError(f"wanted status 200, got {response.status}")
    keys = read_key_set(response.body)
    control = ", ".join(value for name, value in response.headers if name == "cache-control")
    age = _MAX_AGE.search(control)
    return FetchedKeySet(keys, 0 if _NOT_STORED.search(control) else int(age[1]) if age else None)
