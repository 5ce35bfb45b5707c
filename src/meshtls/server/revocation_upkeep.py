"""Has a running server catch up with revocations: those of other servers, and of what it was just signing."""

from __future__ import annotations

from meshtls.clock import first_of
from meshtls.errors import MeshtlsError
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.server.core import Core
from meshtls.server.own_svid import ServerIdentity

__all__ = ["keep_revocations"]

#: The longest time between two looks for CRLs that have ended, in seconds.
_LONGEST_SLEEP = 60.0
_RETRY_SECONDS = 1.0

log = logger("meshtls.server")


async def keep_revocations(core: Core, *identities: ServerIdentity) -> None:
    """Sign CRLs when they are due, and replace those of the server's own SVIDs that were revoked; forever."""
    outage, at_start = Outage(log, core.clock), True
    while True:
        subjects = core.hub.take_revoked()
        try:
            await core.revoking.catch_up(subjects, at_start=at_start)
            at_start = False
            for identity in identities:
                svid = identity.svid
                if svid is not None and any(core.hub.is_revoked(one.serial_number) for one in svid.chain):
                    await identity.renew()
        except MeshtlsError as error:
            outage.failed(str(error), f"CRLs can't be signed, retrying: {error}")
            core.hub.revoke_again(subjects)
            await core.clock.sleep(_RETRY_SECONDS)
            continue
        outage.ended("CRLs are signed again")
        await first_of(core.hub.revoked.wait(), core.clock.sleep(_LONGEST_SLEEP))
