"""All breakages, and the table of docs/troubleshooting.md that has them."""

from __future__ import annotations

from tests.e2e.day_in_the_life.connections import CONNECTIONS
from tests.e2e.day_in_the_life.nodes import NODES

__all__ = ["BREAKAGES"]

BREAKAGES = (*CONNECTIONS, *NODES)
