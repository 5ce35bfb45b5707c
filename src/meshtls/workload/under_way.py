"""Counts calls under way, so that what they use is closed after the last one."""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["UnderWay"]


class UnderWay:
    """Counts the calls under way. ``with`` it around each call; several may be under way."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def over(self) -> None:
        """Return once no call is under way."""
        await self._none.wait()

    def __repr__(self) -> str:
        return f"<UnderWay [{self._count}]>"
