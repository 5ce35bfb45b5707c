"""The HTTP example programs behind one signature, so that any client can call any server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import requests
import urllib3

from examples import aiohttp_client, aiohttp_server, httpx_client, requests_client, uvicorn_server
from meshtls.tls.rotating import RotatingContext
from tests.integration.library.served import Serving

__all__ = ["CLIENTS", "FAILURES", "SERVERS", "Fetch"]

Fetch = Callable[[RotatingContext, str], Awaitable[str]]


def in_thread(fetch: Callable[[RotatingContext, str], str]) -> Fetch:
    return lambda context, url: asyncio.to_thread(fetch, context, url)


CLIENTS: dict[str, Fetch] = {
    "httpx": httpx_client.fetch,
    "httpx, sync": in_thread(httpx_client.fetch_sync),
    "aiohttp": aiohttp_client.fetch,
    "requests": in_thread(requests_client.fetch),
    "urllib3": in_thread(requests_client.fetch_urllib3),
}
SERVERS: dict[str, Serving] = {"aiohttp": aiohttp_server.serving, "uvicorn": uvicorn_server.serving}
FAILURES = (
    httpx.TransportError,
    ssl.SSLError,  # raised by httpx's async client for an alert after its handshake
    aiohttp.ClientConnectionError,
    requests.ConnectionError,
    urllib3.exceptions.HTTPError,
)
