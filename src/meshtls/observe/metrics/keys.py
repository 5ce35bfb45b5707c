"""The section ``metrics`` of a configuration file: where a process is scraped. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from meshtls.address import Address, is_loopback
from meshtls.config.keys import ADDRESS, Key

__all__ = ["MetricsKeys", "scrape_notices"]


class MetricsKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Where metrics are scraped."""

    listen: Annotated[
        Address,
        Key(
            "Where /metrics and /stats/prometheus are answered, in plaintext and to everybody: with the SPIFFE IDs of"
            " peers. Use loopback, or an address that only the scraper reaches.",
            ADDRESS,
        ),
    ]


def scrape_notices(keys: MetricsKeys | None) -> Iterator[str]:
    """What an operator has to know of this section."""
    if keys is not None and not is_loopback(keys.listen.host):
        yield (
            f"metrics.listen: {keys.listen} is no loopback address: whoever reaches it reads the metrics,"
            " with the SPIFFE IDs of peers"
        )
