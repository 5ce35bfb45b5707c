"""The access log's line of an HTTP request: JSON, in parts, since most of it is the same for many requests. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from meshtls.memo import Memo
from meshtls.observe.events import Direction, RequestContext, RequestResult, Ruled
from meshtls.printable import printable, printable_json
from meshtls.redaction import without_query

__all__ = ["RequestLines", "set_fields"]

_LONGEST_METHOD, _LONGEST_HOST, _LONGEST_PATH = 64, 256, 2048
#: Contexts whose parts are remembered: one for each connection with requests, as a rule.
_MOST_CONTEXTS = 4096
#: Texts of requests' own parts that are remembered, and the longest of them.
_MOST_OWN, _LONGEST_OWN = 64, 1024


class _Context(msgspec.Struct):
    """What requests have in common. As in a connection's line."""

    sidecar: str
    direction: str
    verdict: str
    outcome: str
    reason: str
    detail: str
    source_id: str | None
    destination_id: str
    remote: str
    tunnel: bool
    port: int | None
    security: str
    connection_id: str | msgspec.UnsetType


class _Own(msgspec.Struct):
    """What is a request's own, between its time and its duration."""

    method: str
    host: str
    path: str
    status: int


class _RuledPart(msgspec.Struct):
    policy: str | msgspec.UnsetType
    rule: str | msgspec.UnsetType
    clause: str | msgspec.UnsetType
    shadow: tuple[str, ...] | msgspec.UnsetType
    audit: tuple[str, ...] | msgspec.UnsetType


class RequestLines:
    """``line`` makes a request's line: its time, the context, its own part, and what policies said."""

    __slots__ = ("_encoder", "_own", "_parts")

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        #: By the identity of the context, which is kept with them.
        self._parts: Memo[int, tuple[RequestContext, str, str]] = Memo(_MOST_CONTEXTS)
        self._own: Memo[tuple[str, str, str, int], str] = Memo(_MOST_OWN)

    def line(self, result: RequestResult, may_explain: Callable[[RequestContext], bool] = lambda context: True) -> str:
        """``may_explain`` is asked for a line that would have the reasons of what dry-run policies would deny."""
        context = result.context
        known = self._parts.get(id(context))
        if known is None or known[0] is not context:
            known = self._parts_of(context, may_explain)
        _, before, after = known
        # What is written as it came is found at once.
        own = self._own.get((result.method, result.host, result.path, result.status)) or self._own_of(result)
        time = self._encoder.encode(result.started).decode()
        return f'{{"time":{time},{before},{own},"total_ms":{result.total_ms:.3f}{after}}}\n'

    def _own_of(self, result: RequestResult) -> str:
        host = result.host
        if len(host) > _LONGEST_HOST:
            host = host[:_LONGEST_HOST] + "..."
        key = result.method[:_LONGEST_METHOD], host, without_query(result.path)[:_LONGEST_PATH], result.status
        known = self._own.get(key)
        if known is not None:
            return known
        text = printable_json(self._fields(_Own(*key)))
        return self._own.keep(key, text) if len(text) <= _LONGEST_OWN else text

    def _parts_of(
        self, context: RequestContext, may_explain: Callable[[RequestContext], bool]
    ) -> tuple[RequestContext, str, str]:
        would_explain = context.ruled.would_explain
        explains = not would_explain or may_explain(context)
        outcome, source = context.outcome, context.source_id
        before = _Context(
            context.sidecar,
            Direction.INBOUND.value,
            outcome.verdict.value,
            outcome.name,
            outcome.of_request,
            printable(str(context.detail)),
            None if source is None else str(source),
            str(context.destination_id),
            context.remote,
            context.tunnel,
            context.port,
            context.security.value,
            context.connection_id or msgspec.UNSET,
        )
        after = self._fields(_RuledPart(*set_fields(context.ruled, explains), context.ruled.audit or msgspec.UNSET))
        parts = context, printable_json(self._fields(before)), printable_json(f",{after}" if after else "")
        # A denial has a context of its own, and so has what dry-run policies would deny: it is not worth a place.
        return self._parts.keep(id(context), parts) if outcome.allowed and not would_explain else parts

    def _fields(self, part: msgspec.Struct) -> str:
        """The fields of an object, without its braces."""
        return self._encoder.encode(part).decode()[1:-1]


def set_fields(
    ruled: Ruled, explains: bool = True
) -> tuple[
    str | msgspec.UnsetType, str | msgspec.UnsetType, str | msgspec.UnsetType, tuple[str, ...] | msgspec.UnsetType
]:
    """Policy, rule, clause and shadow; those that are not there are left out of the line."""
    unset = msgspec.UNSET
    return (
        unset if ruled.policy is None else ruled.policy,
        unset if ruled.rule is None else ruled.rule,
        unset if ruled.clause is None else ruled.clause,
        (ruled.shadow if explains else ruled.shadow_in_short) or unset,
    )
