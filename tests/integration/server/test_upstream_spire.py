"""A server below a real SPIRE server: its CA, its tokens, and SPIRE's own rotation of what is above."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import URL

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import MeshtlsError
from meshtls.server.config import parse_config
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.jwt import parse_and_validate
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import issuer_key_id_of
from tests.support.agent import eventually, short_directory
from tests.support.server import ServerUnderTest, new_csr, started
from tests.support.spire import DOMAIN, PYTHON, Spire, running_spire

TD = TrustDomain(DOMAIN)
WEB = SpiffeId(TD, "/web")
#: Both servers poll every few seconds.
SECONDS = 120.0
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def spire() -> Iterator[Spire]:
    with short_directory() as directory, running_spire(directory) as running, ExitStack() as registered:
        registered.enter_context(running.entry("/below", PYTHON, "-downstream"))
        yield running


def file_of(spire: Spire, directory: Path) -> str:
    port = re.search(r'bind_port = "(\d+)"', (spire.directory / "server.conf").read_text())
    assert port
    return (
        f"trust_domain: {DOMAIN}\nbind_port: 0\ndata_dir: {directory / 'data'}\nupstream_authority:\n  spire:\n"
        f"    server_address: 127.0.0.1\n    server_port: {port[1]}\n"
        f"    workload_api_socket: {spire.directory}/agent.sock\n"
    )


@pytest.fixture
async def server(spire: Spire, tmp_path: Path, store_url: URL) -> AsyncIterator[ServerUnderTest]:
    config = parse_config("below.yaml", file_of(spire, tmp_path))
    async with started(replace(config, datastore=store_url)) as running:
        yield running


def bundle_of(spire: Spire) -> TrustBundle:
    return TrustBundle.from_jwks(TD, spire.tell("bundle", "show", "-format", "spiffe"))


def authority(spire: Spire, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(spire.tell("localauthority", "x509", *arguments, "-output", "json")))


async def chain_of(server: ServerUnderTest) -> tuple[x509.Certificate, ...]:
    return await server.admin.mint_x509(WEB, new_csr())


def accepts(bundle: TrustBundle, chain: tuple[x509.Certificate, ...]) -> bool:
    try:
        verify_peer([one.public_bytes(Encoding.DER) for one in chain], BundleSet([bundle]), datetime.now(UTC))
    except MeshtlsError:
        return False
    return True


async def states(server: ServerUnderTest) -> dict[str, str]:
    return {one.id: one.state for one in await server.admin.authorities() if one.kind == "x509"}


async def test_svids_hang_on_spires_root_and_tokens_are_valid_where_spires_bundle_is(
    spire: Spire, server: ServerUnderTest
) -> None:
    chain = await chain_of(server)
    assert accepts(bundle_of(spire), chain)
    assert accepts(await server.admin.bundle(), chain)
    token = await server.admin.mint_jwt(WEB, ["db"])
    assert parse_and_validate(token, BundleSet([bundle_of(spire)]), "db", datetime.now(UTC)).spiffe_id == WEB
    theirs = set(bundle_of(spire).jwt_authorities)
    assert theirs <= set((await server.admin.bundle()).jwt_authorities), "SPIRE's tokens are valid with us"


async def test_the_ca_follows_spires_rotation_taint_and_revocation(spire: Spire, server: ServerUnderTest) -> None:
    chain = await chain_of(server)
    first = issuer_key_id_of(chain[-1])
    second = authority(spire, "prepare")["prepared_authority"]["authority_id"]

    async def is_prepared() -> bool:
        return (await states(server)).get(second) == "PREPARED"

    await eventually(is_prepared, seconds=SECONDS)
    authority(spire, "activate", "-authorityID", second)
    authority(spire, "taint", "-authorityID", first)

    async def has_moved() -> bool:
        found = await states(server)
        return (found[first], found[second]) == ("TAINTED", "ACTIVE")

    await eventually(has_moved, seconds=SECONDS)
    renewed = await chain_of(server)
    assert issuer_key_id_of(renewed[-1]) == second
    authority(spire, "revoke", "-authorityID", first)

    async def is_revoked() -> bool:
        return (await states(server))[first] == "REVOKED"

    await eventually(is_revoked, seconds=SECONDS)

    async def is_refused() -> bool:
        return not accepts(await server.admin.bundle(), chain)

    await eventually(is_refused, seconds=SECONDS)
    assert accepts(await server.admin.bundle(), renewed)


async def test_without_an_entry_marked_downstream_there_is_no_ca(tmp_path: Path) -> None:
    with short_directory() as directory, running_spire(directory) as spire, spire.entry("/below", PYTHON):
        config = parse_config("below.yaml", file_of(spire, tmp_path))

        async def start() -> None:
            async with started(config):
                pass

        starting = asyncio.ensure_future(start())
        done, _ = await asyncio.wait([starting], timeout=5)
        assert not done, "it tries for a minute"
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()
