"""The state of the server, for administrators."""

from __future__ import annotations

from importlib.metadata import version

from meshtls.errors import StoreError
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core
from meshtls.server.operations.permission import allowed_to
from meshtls.server.store.changes import current_revision
from meshtls.serverapi.values import Health

__all__ = ["get_health"]


@allowed_to(Role.ADMIN)
async def get_health(core: Core, caller: Caller) -> Health:
    """The server is ready while its database responds; it does not listen before everything else is ready."""
    waiting_for = ""
    try:
        async with core.database.read() as tx:
            await current_revision(tx)
    except StoreError as error:
        waiting_for = str(error)
    return Health(
        ready=not waiting_for,
        waiting_for=waiting_for,
        trust_domain=str(core.hub.trust_domain),
        server_id=core.signing.server_id,
        version=version("meshtls"),
        revision=core.hub.revision,
        entries=len(core.hub.index),
        agents_connected=core.hub.subscribers,
        clock=core.clock.now(),
        troubles=core.troubles,
    )
