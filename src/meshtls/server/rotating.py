"""Keeps a running server's authorities in order by the clock, and its own SVID off a tainted one."""

from __future__ import annotations

from meshtls.clock import first_of
from meshtls.errors import MeshtlsError
from meshtls.logs import logger
from meshtls.server.core import Core
from meshtls.server.own_svid import ServerIdentity
from meshtls.svid.x509 import issuer_key_id_of

__all__ = ["keep_authorities"]

_RETRY_SECONDS = 10.0

log = logger("meshtls.server")


async def keep_authorities(core: Core, *identities: ServerIdentity) -> None:
    """Take each step when it is due, forever; retry where the store or the keys can't be used."""
    changed = core.authorities.changed
    while True:
        changed.clear()
        try:
            seconds = await core.authorities.tick()
        except MeshtlsError as error:
            log.warning("the authorities can't be kept, retrying: %s", error)
            seconds = _RETRY_SECONDS
        try:
            for identity in identities:
                svid = identity.svid
                if svid is not None and issuer_key_id_of(svid.chain[-1]) in core.hub.tainted:
                    await identity.renew()
        except MeshtlsError as error:
            log.warning("the server's own SVID can't be renewed, retrying: %s", error)
            seconds = _RETRY_SECONDS
        await first_of(changed.wait(), core.clock.sleep(seconds))
