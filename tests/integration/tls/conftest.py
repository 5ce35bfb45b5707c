"""Every test of ``listen`` and ``dial`` runs on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Of pytest-asyncio: each of these is a parameter of each test."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
