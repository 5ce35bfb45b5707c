"""Bounds on waiting, with words for what was waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.identity.figures import UnmeasuredError

__all__ = ["within"]


@asynccontextmanager
async def within(seconds: float, wanted: str) -> AsyncIterator[None]:
    """Bound the body. Raises UnmeasuredError, which says what was wanted, if the body is not done in time."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise UnmeasuredError(f"wanted {wanted} within {seconds:g} s") from error
