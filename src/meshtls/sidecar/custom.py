"""Asks the providers of CUSTOM policies about a connection, or a stream of a tunnel, whose bytes are not read."""

from __future__ import annotations

from meshtls.errors import NotAuthorizedError
from meshtls.ext_authz.asking import Denied, ask
from meshtls.policy.decision import Decision
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.gate import Gate, evaluate_or_deny
from meshtls.sidecar.services import Services

__all__ = ["ask_providers"]


async def ask_providers(connection: Connection, gate: Gate, request: Request, services: Services) -> None:
    """Note in ``connection.allowed_by`` whose providers allow it. Raises NotAuthorizedError if one does not."""
    rules = gate.rules
    if rules is None or not rules.asks:
        return
    matches = evaluate_or_deny(lambda: rules.custom(request, reads_http=False))
    found = Denied(matches) if isinstance(matches, Decision) else await ask(matches, request, services.check)
    if isinstance(found, Denied):
        connection.decision, connection.peer = found.decision, request.peer
        raise NotAuthorizedError(found.decision.words, request.peer)
    connection.allowed_by = found.allowed_by
