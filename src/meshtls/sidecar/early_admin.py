"""The admin interface of a sidecar that has no SVID yet: it answers from the start, and says what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from meshtls.address import Address
from meshtls.admin.info import ProcessInfo
from meshtls.admin.levels import logging_page
from meshtls.admin.pages import Page, Pages, Query, Record, ready_page
from meshtls.admin.serving import serving_admin
from meshtls.clock import Clock
from meshtls.observe.readiness import Readiness
from meshtls.sidecar.settings import SidecarConfig

__all__ = ["EarlyAdmin", "serving_early_admin"]


class EarlyAdmin(NamedTuple):
    """What is served: a sidecar replaces the pages by its own. ``address`` is that over TCP, if there is one."""

    pages: Pages
    address: Address | None


@asynccontextmanager
async def serving_early_admin(
    config: SidecarConfig, readiness: Callable[[], Readiness], clock: Clock, worker: int = 0
) -> AsyncIterator[EarlyAdmin | None]:
    """Answer while the body runs; None where the file has no ``admin``. ``readiness`` says what is missing. Raises
    ConfigError.
    """
    if config.admin is None:
        yield None
        return
    pages = _pages(config, readiness, clock)
    async with serving_admin(config.admin, pages, worker=worker) as address:
        yield EarlyAdmin(pages, address)


def _pages(config: SidecarConfig, ready: Callable[[], Readiness], clock: Clock) -> Pages:
    info = ProcessInfo(config.process, clock)

    def certs(query: Query) -> Record:
        return {"spiffe_id": str(config.spiffe_id), "missing": ready().text, "svids": [], "bundles": []}

    def connections(query: Query) -> Record:
        return {"sidecar": config.name, "number": 0, "live": [], "ended": [], "requests": []}

    def server_info(query: Query) -> Record:
        return info.record(state="new", workers=config.workers, log_level=config.log_level)

    words = ("id", "direction", "state", "limit", "requests")
    return Pages(
        [
            Page("/certs", "What is missing of our SVID.", certs),
            Page("/connections", "None: nothing is accepted yet.", connections, words=words),
            ready_page(ready, config.process),
            logging_page(),
            Page("/server_info", "What runs here, and since when.", server_info),
        ]
    )
