"""The matrix runs on the sidecar's own loop, one for each module: peers are started once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from meshtls.sidecar.loop import new_loop

pytest.register_assert_rewrite("tests.integration.hbone.matrix")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio's hook: each of these loops is a parameter of each test."""
    return {"own-loop": new_loop}
