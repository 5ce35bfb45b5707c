"""Every test of the sidecar runs on both loops: asyncio's, as in a user's program, and the sidecar's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from meshtls.sidecar.loop import new_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio's hook: each of these loops is a parameter of each test."""
    return {"any-loop": asyncio.new_event_loop, "own-loop": new_loop}
