"""A listener for scrapes of metrics: ``/metrics`` and ``/stats/prometheus`` over HTTP/1.1, one request a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from meshtls.address import Address
from meshtls.observe.metrics import Scrape
from meshtls.observe.metrics.http import SCRAPE_PATHS
from meshtls.rpc.small_http import Answer, Request, serve_http

__all__ = ["serving_scrapes"]


@asynccontextmanager
async def serving_scrapes(
    listen: Address | None, scrape: Callable[[str], Awaitable[Scrape]]
) -> AsyncIterator[Address | None]:
    """Answer while the body runs, where ``listen`` is an address. Yields it with the port where 0 was asked for.

    ``scrape`` is given the request's Accept header. Raises ConfigError.
    """
    if listen is None:
        yield None
        return

    async def answer(request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return Answer(405, b"wanted GET\n")
        if request.path.partition("?")[0] not in SCRAPE_PATHS:
            return Answer(404, f"wanted {' or '.join(SCRAPE_PATHS)}\n".encode())
        scraped = await scrape(request.fields.get("accept", ""))
        return Answer(200, scraped.content, scraped.content_type)

    async with serve_http("metrics.listen", listen.host, listen.port, answer) as port:
        yield Address(listen.host, port)
