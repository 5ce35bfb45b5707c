"""How many of the traces that a caller can choose to have recorded are recorded. Pure.

A client chooses the random of its ClientHello, from which a connection's trace has its ID, by which it is sampled; and
a caller may set the flag *sampled* of a ``traceparent``. So each caller, and all together, have a budget: it grows with
time, and by the sampled share with each trace, so that who chooses nothing is recorded as often as ``sample`` says. The
flag counts only if its caller has proven its identity, and is not denied; else the share decides, by chance.
"""

from __future__ import annotations

from typing import NamedTuple

from meshtls.budget import Budget, Budgets
from meshtls.sidecar.tracing.contexts import Sampler
from meshtls.wire.trace_context import SAMPLED, SpanContext

__all__ = ["ChosenTraces", "Source"]

#: Traces a second beside the share, of one caller and of all together; and ten times as many at once.
_OF_ONE_PEER, _OF_ALL_PEERS = 20.0, 200.0
_OF_ONE_ADDRESS, _OF_ALL_ADDRESSES = 2.0, 20.0


class Source(NamedTuple):
    """Who chooses: a SPIFFE ID that is ``proven``, or an address."""

    name: str
    proven: bool


class ChosenTraces:
    """``now`` is in seconds."""

    def __init__(self, sampler: Sampler, now: float) -> None:
        self._sampler = sampler
        self._of_one = {True: Budgets(_OF_ONE_PEER), False: Budgets(_OF_ONE_ADDRESS)}
        self._of_all = {True: Budget(_OF_ALL_PEERS, now), False: Budget(_OF_ALL_ADDRESSES, now)}

    def decide(self, span: SpanContext, source: Source, now: float, *, claimed: bool) -> SpanContext:
        """The same span, with the flag *sampled* if its trace is recorded here. ``claimed``: its caller sent the flags;
        otherwise they are by the ID that it chose.
        """
        one, together = self._of_one[source.proven].of(source.name, now), self._of_all[source.proven]
        one.give_back(self._sampler.share)
        together.give_back(self._sampler.share)
        if not span.sampled:
            return span
        if claimed and not source.proven:
            return self.by_chance(span)
        if one.take(1, now):
            if together.take(1, now):
                return span
            one.give_back(1)
        return _unsampled(span)

    def by_chance(self, span: SpanContext) -> SpanContext:
        """The same span, recorded by the share alone, whatever its caller chose."""
        return span if not span.sampled or self._sampler.root().sampled else _unsampled(span)


def _unsampled(span: SpanContext) -> SpanContext:
    return span._replace(flags=span.flags & ~SAMPLED)
