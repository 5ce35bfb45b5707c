"""A source of X509-SVIDs over any Workload API: it follows the stream and swaps one frozen snapshot per update.

While the Workload API is unreachable, the present SVID is used until it expires, and not after. When the Workload API
withdraws it (PERMISSION_DENIED, or a message without its SPIFFE ID), it is no longer used until the identity is granted
again (SPIFFE Workload API, section 5.2.1). An SVID that has expired is no longer sent either, beside those of the
process's other identities: it was not withdrawn, but not renewed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import datetime
from types import TracebackType

from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.logs import logger
from meshtls.observe.metrics.workload_api import IdentityFailure
from meshtls.observe.outage import Outage
from meshtls.observe.readiness import Readiness, readiness_of
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid
from meshtls.workload.address import Address
from meshtls.workload.background import in_background
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import ExpiredSvidError, OtherIdentityError, expired_text
from meshtls.workload.latest import Latest

__all__ = ["Picker", "X509Source"]

Picker = Callable[[tuple[X509Svid, ...]], X509Svid]
# Raised by a picker, or by ``index`` on its result, if none of the SVIDs fits. Any other error is a bug in the picker.
_NONE_FITS = (LookupError, ValueError, StopIteration)

log = logger("meshtls.workload")


class _PickerFailedError(LocalIdentityError):
    """A bug in the picker, which no update fixes."""


class _NotRenewedError(ExpiredSvidError):
    """The SVID has expired, and the Workload API sends those of other identities alone."""


class X509Source:
    """Implements X509ContextSource. ``async with`` waits for the first SVID or raises LocalIdentityError.

    - The address is SPIFFE_ENDPOINT_SOCKET's unless given (ConfigError if it is invalid).
    - ``picker`` chooses the default one of several SVIDs, or raises LookupError; without a picker the Workload API's
      first is the default. A picker that raises is called again at the next update; meanwhile the present SVID is used,
      as long as it is valid and the Workload API still names its SPIFFE ID. Before the first SVID, ``async with``
      raises any error of the picker except a LookupError.
    - ``timeout``: seconds to wait for the first SVID, None for no limit.
    - ``jitter`` returns a number in [-1, 1] for each retry.
    """

    def __init__(
        self,
        address: Address | str | None = None,
        *,
        picker: Picker | None = None,
        clock: Clock | None = None,
        timeout: float | None = 30.0,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._client = WorkloadApiClient(address, clock=self._clock, jitter=jitter)
        self._picker = picker
        self._timeout = timeout
        self._latest: Latest[X509Context] = Latest("X509-SVID", self._clock)
        self._stale = Outage(log, self._clock)
        #: The SPIFFE IDs that this process has by an entry, and of which the agent had no valid SVID when last asked.
        self.without_svid: frozenset[str] = frozenset()
        #: When the present default SVID was first received.
        self._received: datetime | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> X509Source:
        self._latest.begin()
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._client)
            await opening.enter_async_context(in_background(self._latest.follow(self._contexts()), "follow X509-SVIDs"))
            await self._latest.first(self._timeout)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._latest.close("this source of X509-SVIDs")
        await self._open.aclose()

    def snapshot(self) -> X509Context:
        """The newest context.

        Raises LocalIdentityError before the first, after the SVID has expired, and once the source is closed; its
        subclass IdentityWithdrawnError as long as the Workload API denies this process an identity.
        """
        context, now = self._latest.value, self._clock.now()
        if now > context.svid.not_after:
            if isinstance(self._latest.last_error, _NotRenewedError):
                raise LocalIdentityError(str(self._latest.last_error))
            raise LocalIdentityError(
                f"our SVID {context.svid.spiffe_id} expired at {_clock(context.svid.not_after)}; our clock says"
                f" {_clock(now)}; {self._latest.last_error or 'the Workload API has sent no newer one'}"
            )
        return context

    async def changed(self, after_generation: int | None = None) -> X509Context:
        """Wait for a generation above ``after_generation`` (default: the present one) and return it.

        Raises LocalIdentityError if there can be no more: the source was closed, or the server is not a Workload API.
        """
        return await self._latest.after(self._latest.generation if after_generation is None else after_generation)

    async def withdrawn(self) -> LocalIdentityError:
        """Wait until the Workload API withdraws the identity, and return the reason; at once if it is withdrawn.

        Raises LocalIdentityError as ``changed``, which waits until the identity is granted again.
        """
        return await self._latest.until_withdrawn()

    def readiness(self) -> Readiness:
        """Whether ``snapshot`` returns a valid SVID now, why not, and for how long if renewal fails."""
        try:
            svid = self.snapshot().svid
        except LocalIdentityError as error:
            waits = not (self._latest.ever_known or self._latest.closed or self._latest.over)
            why = (self._latest.last_error or f"{self._client.address} has sent none yet") if waits else error
            return Readiness(False, f"a valid SVID: {why}")
        return readiness_of(
            svid,
            self._clock.now(),
            received=self._received,
            failing_since=self._latest.failing_since,
            why=self._latest.last_error,
        )

    @property
    def failures(self) -> Mapping[IdentityFailure, int]:
        """How many attempts to get an SVID have failed, by their reason."""
        return self._latest.failures

    @property
    def last_error(self) -> LocalIdentityError | None:
        """The error of the latest attempt to reach the Workload API; None if it succeeded."""
        return self._latest.last_error

    def __repr__(self) -> str:
        if self._latest.closed:
            return f"<X509Source {self._client.address} [closed]>"
        if not self._latest.known:
            state = "no SVID" if self._latest.ever_known else "no SVID yet"
            return f"<X509Source {self._client.address} [{state}{self._latest.trouble}]>"
        svid = self._latest.value.svid
        state = f"gen {self._latest.generation} until {_clock(svid.not_after)}{self._latest.trouble}"
        return f"<X509Source {svid.spiffe_id} [{state}]>"

    async def _contexts(self) -> AsyncGenerator[X509Context]:
        watched = self._client.watch_x509_contexts(self._latest.note_failure, self._is_urgent, self._note_without)
        async with aclosing(watched) as contexts:
            async for sent in contexts:
                try:
                    context = self._without_expired(sent)
                    picked = replace(context, svids=self._picked_first(context.svids))
                    if not self._latest.known or self._latest.value.svid != picked.svid:
                        self._received = self._clock.now()
                    yield self._numbered(picked)
                except LocalIdentityError as error:
                    if isinstance(error, _PickerFailedError) and not self._latest.ever_known:
                        raise  # to the wait for the first SVID
                    not_renewed = self._not_renewed(sent)
                    if not_renewed is None:
                        self._withdraw_unless_named(sent, error)
                    self._latest.note_failure(not_renewed or error)

    def _note_without(self, names: frozenset[str]) -> None:
        self.without_svid = names

    def _is_urgent(self) -> bool:
        """Whether there is no valid SVID."""
        return not self._latest.known or self._clock.now() > self._latest.value.svid.not_after

    def _without_expired(self, sent: X509Context) -> X509Context:
        """Replace each expired SVID by our own valid one of the same identity, or drop it.

        Raises LocalIdentityError where no valid one is left.
        """
        now = self._clock.now()
        expired = tuple(svid for svid in sent.svids if svid.not_after < now)
        if not expired:
            self._stale.ended("X509-SVIDs of the Workload API: all are valid again")
            return sent
        ours = {(svid.spiffe_id, svid.hint): svid for svid in self._latest.value.svids} if self._latest.known else {}
        kept = (ours.get((svid.spiffe_id, svid.hint), svid) if svid in expired else svid for svid in sent.svids)
        valid = tuple(svid for svid in kept if now <= svid.not_after)
        words = expired_text(expired, now)
        if not valid:
            raise ExpiredSvidError(f"the Workload API sent only expired X509-SVIDs: {words}")
        self._stale.failed(expired, f"the Workload API sent expired X509-SVIDs, which are not used: {words}")
        return replace(sent, svids=valid)

    def _not_renewed(self, sent: X509Context) -> LocalIdentityError | None:
        """Why a message does not name the identity of the present SVID, if that has expired; None in other cases."""
        if not self._latest.known:
            return None
        svid = self._latest.value.svid
        if self._clock.now() <= svid.not_after or svid.spiffe_id in {one.spiffe_id for one in sent.svids}:
            return None
        return _NotRenewedError(
            f"{svid.spiffe_id} expired at {_clock(svid.not_after)} and was not renewed: the agent has no newer one, and"
            " `meshtls admin ready` of the agent says why"
        )

    def _withdraw_unless_named(self, sent: X509Context, why: LocalIdentityError) -> None:
        """Withdraw an identity that a message does not name, even if the message is unusable."""
        if self._latest.known and self._latest.value.svid.spiffe_id not in {svid.spiffe_id for svid in sent.svids}:
            gone = self._latest.value.svid.spiffe_id
            self._latest.withdraw(LocalIdentityError(f"the Workload API no longer names {gone}; {why}"))

    def _numbered(self, context: X509Context) -> X509Context:
        # After a reconnect the same state is sent again; that is not a rotation.
        generation = self._latest.generation
        same = replace(context, generation=generation)
        return (
            same if self._latest.known and same == self._latest.value else replace(context, generation=generation + 1)
        )

    def _picked_first(self, svids: tuple[X509Svid, ...]) -> tuple[X509Svid, ...]:
        if self._picker is None:
            return svids
        try:
            picked = self._picker(svids)
            place = svids.index(picked)
        except _NONE_FITS as error:
            said = str(error) if type(error) is LookupError else ""  # of a subclass it is a key or an index
            raise OtherIdentityError(said or f"the picker chose none of our X509-SVIDs: {_named(svids)}") from error
        except Exception as error:  # the caller's code: no exception of it may end the watch
            raise _PickerFailedError(
                f"the picker failed on our X509-SVIDs {_named(svids)}: {type(error).__name__}: {error}; wanted one of"
                " them, or a LookupError if none fits"
            ) from error
        return (picked, *svids[:place], *svids[place + 1 :])


def _named(svids: tuple[X509Svid, ...]) -> str:
    return ", ".join(str(svid.spiffe_id) for svid in svids)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
