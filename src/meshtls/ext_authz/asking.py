"""Asks the providers of the CUSTOM policies that match a request or a connection, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from meshtls.ext_authz.answer import ExtAuthzAnswer
from meshtls.policy.decision import DENIED_TEXT, Decision
from meshtls.policy.istio.evaluate import CustomMatch
from meshtls.policy.request import Request
from meshtls.wire.http import Refuse

__all__ = ["Asked", "Denied", "ask", "deny_if_unasked"]

#: Ask the provider of this name, as ``ExtAuthz.check`` does.
Check = Callable[[Request, str], Awaitable[ExtAuthzAnswer]]


class Asked(NamedTuple):
    """All providers allow it. ``request`` has the headers as they changed them, ``added`` is what they add to the
    response, and ``allowed_by`` are the policies and providers that were asked (``CustomMatch.question``).
    """

    request: Request
    allowed_by: frozenset[tuple[str, str]]
    added: tuple[tuple[str, str], ...]


class Denied(NamedTuple):
    """A provider denies it, or can't be asked. ``refusal`` is for the client of an HTTP request, ``decision`` for the
    log.
    """

    decision: Decision
    refusal: Refuse = Refuse(403, DENIED_TEXT)


async def ask(matches: Iterable[CustomMatch], request: Request, check: Check) -> Asked | Denied:
    """Ask about ``request`` until a provider denies. Each gets the request as those before it changed it."""
    allowed_by: list[tuple[str, str]] = []
    added: tuple[tuple[str, str], ...] = ()
    for match in matches:
        if match.refusal is not None:
            return Denied(match.refusal)
        answer = await check(request, match.provider)
        if not answer.allowed:
            return Denied(match.deny_as_provider(answer.reason), answer.refusal())
        allowed_by.append(match.question)
        added += answer.sent
        if request.http is not None:
            request = replace(request, http=answer.applied_to(request.http))
    return Asked(request, frozenset(allowed_by), added)


def deny_if_unasked(
    matches: Iterable[CustomMatch], allowed_by: frozenset[tuple[str, str]], judged: str
) -> Decision | None:
    """Deny what was judged before a CUSTOM policy that matches it was in force; ``judged`` names it in the message."""
    for match in matches:
        if match.question not in allowed_by:
            return match.deny(f"denied: {match.policy} is newer than the {judged}, and its provider was not asked")
    return None
