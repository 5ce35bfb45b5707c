"""The event loops on which the tests of a directory run: its ``conftest.py`` imports the hook.

from tests.support.loops import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

__all__ = ["pytest_asyncio_loop_factories"]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio's hook: each of these loops is a parameter of each test."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
