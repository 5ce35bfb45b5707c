"""The sidecar's own identity: checked against the configuration, and watched for withdrawal and changes of trust."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError
from meshtls.logs import logger
from meshtls.observe.readiness import Readiness, readiness_from
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import WithdrawableSource, X509Context, X509ContextSource
from meshtls.svid.verifier import CurrentVerifier, trust_changes

__all__ = ["NamedSource", "end_after_withdrawal", "follow_trust"]

log = logger("meshtls.sidecar")


@dataclass(slots=True)
class NamedSource:
    """An X509ContextSource that raises if the identity of ``source`` is not the configured one."""

    source: X509ContextSource
    spiffe_id: SpiffeId
    clock: Clock
    #: The latest one that is of the configured identity: each stream of a tunnel asks for it.
    _checked: X509Context | None = field(init=False, default=None)

    def snapshot(self) -> X509Context:
        """Raises LocalIdentityError."""
        context = self.source.snapshot()
        if context is self._checked:
            return context
        found = context.svid.spiffe_id
        if found != self.spiffe_id:
            raise LocalIdentityError(
                f"wanted an SVID of {self.spiffe_id}, got one of {found};"
                " mend spiffe_id in the sidecar's file, or what the CA issues to it"
            )
        self._checked = context
        return context

    def readiness(self) -> Readiness:
        """Whether there is a valid SVID now; if not, why; if its renewal fails, for how long it stays valid."""
        try:
            self.snapshot()
        except LocalIdentityError as error:
            return Readiness(False, f"a valid SVID: {error}")
        return readiness_from(self.source, self.clock.now())


async def end_after_withdrawal(
    source: X509ContextSource, grace: float, clock: Clock, end: Callable[[str], None]
) -> None:
    """Call ``end``, with the reason, whenever the identity of ``source`` has been withdrawn for ``grace`` seconds.

    New connections need no such call: ``snapshot`` raises for them as soon as it is withdrawn.
    """
    if not isinstance(source, WithdrawableSource):
        return
    with suppress(LocalIdentityError):  # the source was closed, or nothing can come from it any more
        while True:
            why = await source.withdrawn()
            log.warning("our identity was withdrawn: live connections end in %g s unless it is given again", grace)
            if not await _given_again_within(grace, source, clock):
                end(f"our identity was withdrawn {grace:g} s ago: {why}")
            await _given_again(source)
            log.warning("our identity was given again")


async def follow_trust(
    source: X509ContextSource, verifier: CurrentVerifier, recheck: Callable[[], Awaitable[int]]
) -> None:
    """Whenever the trust of ``source`` changes, take it over and call ``recheck``, which ends the live connections that
    are no longer trusted and returns their number.

    New connections need no such call: each handshake uses the newest context.
    """
    if not isinstance(source, WithdrawableSource):
        return
    async with aclosing(trust_changes(source, verifier)) as changes:
        async for _ in changes:
            if ended := await recheck():
                log.warning("bundles or revocations changed: %d live connections ended", ended)


async def _given_again(source: WithdrawableSource) -> None:
    try:
        source.snapshot()
    except LocalIdentityError:
        await source.changed()


async def _given_again_within(seconds: float, source: WithdrawableSource, clock: Clock) -> bool:
    given = asyncio.ensure_future(_given_again(source))
    over = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((given, over), return_when=asyncio.FIRST_COMPLETED)
        return given.done() and given.result() is None
    finally:
        given.cancel()
        over.cancel()
        await asyncio.wait((given, over))
