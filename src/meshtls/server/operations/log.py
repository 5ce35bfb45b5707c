"""The transparency log, for administrators; over HTTP it is served to everybody, if configured."""

from __future__ import annotations

from meshtls.server.access import Caller, Role
from meshtls.server.core import Core
from meshtls.server.log_resources import LogResource, resource
from meshtls.server.operations.permission import allowed_to

__all__ = ["read_log"]


@allowed_to(Role.ADMIN)
async def read_log(core: Core, caller: Caller, path: str) -> LogResource:
    """The log's resource at this path. Raises NotFoundError, RequestError, StoreError."""
    return await resource(core, path)
