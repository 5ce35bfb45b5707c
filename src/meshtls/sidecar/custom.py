"""Asks the providers of CUSTOM policies about a connection, or a stream of a tunnel, whose bytes are not read."""

from __future__ import annotations

from meshtls.errors import NotAuthorizedError
from meshtls.policy.decision import Decision
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.gate import Gate, contained
from meshtls.sidecar.services import Services

__all__ = ["ask_providers"]


async def ask_providers(connection: Connection, gate: Gate, request: Request, services: Services) -> None:
    """Note in ``connection.allowed_by`` whose providers allow it. Raises NotAuthorizedError if one does not."""
    rules = gate.rules
    if rules is None or not rules.asks:
        return
    matches = contained(lambda: rules.custom(request, reads_http=False))
    if isinstance(matches, Decision):
        raise _refused(connection, matches, request)
    for match in matches:
        if match.refusal is not None:
            raise _refused(connection, match.refusal, request)
        answer = await services.now.ext_authz.check(request, match.provider)
        if not answer.allowed:
            raise _refused(connection, match.denied(answer.reason), request)
    connection.allowed_by = frozenset(match.asked for match in matches)


def _refused(connection: Connection, decision: Decision, request: Request) -> NotAuthorizedError:
    connection.decision, connection.peer = decision, request.peer
    return NotAuthorizedError(decision.words, request.peer)
