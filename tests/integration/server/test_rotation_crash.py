"""A server that is killed at each step of a rotation goes on from there: no serial twice, no authority lost."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import URL

from meshtls.bundle import BundleSet
from meshtls.clock import SystemClock
from meshtls.serverapi.admin import AdminClient
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt import parse_and_validate
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import format_serial, key_id_of
from tests.integration.server.rotation_killed_at import rotate
from tests.integration.server.test_crash import administered, config_file
from tests.support.forking import Forks, server_fork
from tests.support.server import TD, new_csr

WEB = SpiffeId(TD, "/web")
#: Where a process ends itself: module, function, whether before or after it, and at which passage.
STEPS = [
    ("meshtls.server.authority_keys.AuthorityKeys.new", "before", 0),
    ("meshtls.server.disk_ring.DiskRing._rename", "before", 0),
    ("meshtls.server.disk_ring.DiskRing._rename", "after", 0),
    ("meshtls.server.authority_keys.AuthorityKeys.new", "after", 0),
    ("meshtls.server.store.bundles.publish", "after", 0),
    ("meshtls.server.authorities.Authorities._told", "before", 0),
    ("meshtls.server.store.authorities.move", "after", 0),
    ("meshtls.server.store.authorities.move", "after", 1),
    ("meshtls.server.authorities.Authorities._sign_with", "before", 2),
    ("meshtls.server.authorities.Authorities._told", "before", 1),
    ("meshtls.server.store.authorities.move", "after", 2),
    ("meshtls.server.authorities.Authorities._told", "before", 2),
    ("meshtls.server.store.authorities.move", "after", 3),
    ("meshtls.server.authority_keys.AuthorityKeys.drop", "before", 0),
    ("meshtls.server.disk_ring.DiskRing._finish", "before", 1),
    ("meshtls.server.disk_ring.DiskRing._finish", "after", 1),
    ("meshtls.server.authorities.Authorities._told", "before", 3),
    ("meshtls.server.authority_keys.AuthorityKeys.new", "after", 1),
    ("meshtls.server.authorities.Authorities._sign_with", "before", 3),
    ("meshtls.server.disk_ring.DiskRing.remove_jwt", "before", 0),
]


def killed_in_rotation(forked: Forks, step: str, when: str, calls: int, config: Path) -> list[str]:
    """The serials that were received before the kill."""
    module = "tests.integration.server.rotation_killed_at"
    code, said, errors = forked.run(module, step, when, str(calls), config, directory=config.parent)
    assert code == -signal.SIGKILL, errors
    received: list[str] = json.loads(said)
    return received


def numbers_of_keys(directory: Path) -> list[int]:
    """How many X.509 and JWT authorities have keys; nothing half made or half deleted may be left."""
    assert not [path.name for path in directory.iterdir() if path.name.startswith(".")]
    return [len(list(directory.rglob(name))) for name in ("root.pem", "jwt*.pem")]


async def check_whole(admin: AdminClient, keys: Path) -> str:
    """One authority of each kind signs, all that can sign are in the bundle, and no key is left of any other.

    Returns the serial of a new SVID.
    """
    now, bundle = SystemClock().now(), await admin.bundle()
    chain = await admin.mint_x509(WEB, new_csr())
    verify_peer([one.public_bytes(Encoding.DER) for one in chain], BundleSet([bundle]), now)
    parse_and_validate(await admin.mint_jwt(WEB, ["db"]), BundleSet([bundle]), "db", now)
    alive = [one for one in await admin.authorities() if one.state not in ("REVOKED", "EXPIRED")]
    assert [sum(one.kind == kind and one.state == "ACTIVE" for one in alive) for kind in ("x509", "jwt")] == [1, 1]
    by_kind = [[one.id for one in alive if one.kind == kind] for kind in ("x509", "jwt")]
    assert [list(map(key_id_of, bundle.x509_authorities)), list(bundle.jwt_authorities)] == by_kind
    assert numbers_of_keys(keys) == list(map(len, by_kind))
    return format_serial(chain[0])


@pytest.mark.parametrize(("step", "when", "calls"), STEPS)
async def test_kill_at_each_step_of_a_rotation_loses_no_authority_and_repeats_no_serial(
    step: str, when: str, calls: int, tmp_path: Path, store_url: URL, forked: Forks
) -> None:
    config = config_file(tmp_path, store_url)
    keys = tmp_path / "server" / "keys"
    with server_fork(forked, config) as running, administered(running.socket_path) as admin:
        received = [await check_whole(admin, keys)]
    received += killed_in_rotation(forked, step, when, calls, config)
    with server_fork(forked, config) as running, administered(running.socket_path) as admin:
        received.append(await check_whole(admin, keys))
        recorded = [one.serial async for one in admin.issuances()]
        assert set(received) <= set(recorded)
        assert len(set(recorded)) == len(recorded)
        for one in await admin.authorities():
            if one.state in ("PREPARED", "OLD", "TAINTED"):
                await admin.revoke_authority(one.kind, one.id, force=True)
        for kind in ("x509", "jwt"):
            await rotate(admin, kind)
        await check_whole(admin, keys)
