from collections.abc import Iterator

import pytest

from tests.e2e.compose import Stack, compose_command, engine_missing
from tests.support.require import require


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The compose file and the twins, up and healthy; taken down whatever happens."""
    reason = engine_missing()
    require("docker", not reason, f"no Docker engine: {reason}")
    require("docker", bool(compose_command()), "neither `docker compose` nor docker-compose is here")
    stack = Stack()
    try:
        stack.up()
        stack.wait_healthy("server", "agent", "sidecar-a", "sidecar-b", "app-a", "app-b", "outsider")
        yield stack
    finally:
        stack.down()
