"""Scrapes a process over HTTP, and reads what it says with the parsers of Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from meshtls.address import Address
from tests.support.waiting import SECONDS

__all__ = ["OPENMETRICS", "Found", "get", "names_in", "samples", "scraped", "scraped_until", "value"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Found = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def get(address: Address, path: str = "/metrics", accept: str = "") -> tuple[str, str]:
    """The head and the content of the response."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    with contextlib.closing(writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())
        head, _, content = (await reader.read()).decode().partition("\r\n\r\n")
    return head, content


def samples(content: str) -> Found:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in _families(content)
        for sample in family.samples
    }


def names_in(content: str) -> set[str]:
    """The names of the families, as their HELP has them."""
    return {line.split(" ")[2] for line in content.splitlines() if line.startswith("# HELP ")}


def value(found: Found, name: str, **labels: str) -> float | None:
    """The sum of the samples with at least these labels; None where there is none."""
    values = [one for (of, has), one in found.items() if of == name and labels.items() <= dict(has).items()]
    return sum(values) if values else None


async def scraped(address: Address | None, accept: str = "") -> Found:
    """What this address answers now."""
    assert address is not None
    head, content = await get(address, accept=accept)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    return samples(content)


async def scraped_until(address: Address | None, holds: Callable[[Found], bool]) -> Found:
    """Scrape until this holds of the answer, which is then returned."""
    found: Found = {}
    try:
        async with asyncio.timeout(SECONDS):
            while not holds(found := await scraped(address)):  # noqa: ASYNC110  # there is no event
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {SECONDS} s, in {found}") from None
    return found


def _families(content: str) -> Any:
    families: Any = read_openmetrics if content.endswith("# EOF\n") else read_text
    return families(content)
