"""Background work ends with its body, even if it suppresses its cancellation."""

from __future__ import annotations

import asyncio

import pytest

from meshtls.workload import background
from meshtls.workload.background import in_background


@pytest.mark.parametrize("swallows", [0, 1, 3])
async def test_background_work_ends_with_its_body_even_if_it_swallows_a_cancellation(
    swallows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_CLEAN_UP", 0.01)
    cancelled = 0

    async def work() -> None:
        nonlocal cancelled
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
                if cancelled > swallows:
                    raise

    async with asyncio.timeout(10):
        async with in_background(work(), "work"):
            await asyncio.sleep(0)
    assert cancelled == swallows + 1
