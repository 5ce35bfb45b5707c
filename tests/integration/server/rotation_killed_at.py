"""A server that kills itself at one step of a rotation; a ``tests.support.forking`` runs it.

Prints the serials of the SVIDs that were received, as far as it comes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from meshtls.server.config import load_config
from meshtls.server.run import running_server
from meshtls.serverapi.admin import AdminClient
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial
from tests.integration.server.killed_at import arm
from tests.integration.server.test_crash import administered
from tests.support.server import TD, new_csr

received: list[str] = []


async def mint(admin: AdminClient) -> None:
    received.append(format_serial((await admin.mint_x509(SpiffeId(TD, "/web"), new_csr()))[0]))


async def rotate(admin: AdminClient, kind: str) -> None:
    """A whole rotation, with an SVID after each step."""
    await admin.prepare_authority(kind)
    await mint(admin)
    await admin.activate_authority(kind, force=True)
    await mint(admin)
    [old] = [one.id for one in await admin.authorities() if one.kind == kind and one.state == "OLD"]
    await admin.taint_authority(kind, old)
    await mint(admin)
    await admin.revoke_authority(kind, old, force=True)
    await mint(admin)


async def main(step: str, when: str, calls: int, config: Path) -> None:
    arm(step, when, calls, lambda: print(json.dumps(received), flush=True))
    async with running_server(load_config(config)) as running:
        with administered(running.socket_path) as admin:
            for kind in ("x509", "jwt"):
                await rotate(admin, kind)


def main_of(arguments: Sequence[str]) -> None:
    step, when, calls, config = arguments
    asyncio.run(main(step, when, int(calls), Path(config)))
