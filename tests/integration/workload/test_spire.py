"""The library's sources over SPIRE's Workload API: a real server, a real agent, and the machine's own clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib import Status

from meshtls.errors import IdentityWithdrawnError, InvalidSvidError, LocalIdentityError, NoBundleError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import sign
from meshtls.svid.verify import verify_peer
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from meshtls.workload.jwt_source import JwtSource
from meshtls.workload.x509_source import X509Source
from tests.support.agent import eventually, short_directory
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.spire import DOMAIN, PYTHON, Spire, running_spire

WEB, DB = (SpiffeId.parse(f"spiffe://{DOMAIN}/{name}") for name in ("web", "db"))
PARTNER = TrustDomain("partner.test")
DENIED = "PERMISSION_DENIED: no identity issued"
SECONDS = 30
pytestmark = [
    pytest.mark.asyncio(loop_factories=["asyncio"]),  # SPIRE's messages are the same on every loop
    pytest.mark.timeout(600),  # two programs are started for the first test
]


@pytest.fixture(scope="module")
def spire() -> Iterator[Spire]:
    with short_directory() as directory, running_spire(directory) as running:
        yield running


@pytest.fixture
async def client(spire: Spire) -> AsyncIterator[WorkloadApiClient]:
    async with WorkloadApiClient(spire.workload_api) as opened:
        yield opened


@pytest.fixture(autouse=True)
async def nobody_yet(client: WorkloadApiClient) -> None:
    """Wait until the agent has forgotten the entries of the previous test."""

    async def denied() -> bool:
        try:
            await client.fetch_x509_context()
        except WorkloadApiError as error:
            return error.status is Status.PERMISSION_DENIED
        return False

    await eventually(denied)


async def until(source: X509Source, *ids: SpiffeId) -> X509Context:
    """The first context, the present one or a later, with exactly these identities."""
    context = source.snapshot()
    async with asyncio.timeout(SECONDS):
        while {svid.spiffe_id for svid in context.svids} != set(ids):
            context = await source.changed(context.generation)
    return context


def _ders(context: X509Context) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in context.svid.chain]


class TestX509Source:
    async def test_the_workload_gets_an_svid_that_verifies_by_its_bundle(self, spire: Spire) -> None:
        with spire.entry("/web", PYTHON):
            async with X509Source(spire.workload_api) as source:
                context = source.snapshot()
        peer = verify_peer(_ders(context), context.bundles, datetime.now(UTC))
        assert [svid.spiffe_id for svid in context.svids] == [peer.spiffe_id] == [WEB]
        assert [str(bundle.trust_domain) for bundle in context.bundles] == [DOMAIN]

    async def test_the_stream_sends_a_rotation(self, spire: Spire) -> None:
        # SPIRE backdates an SVID by ten seconds and renews it at half of its 30 seconds: after about five.
        with spire.entry("/web", PYTHON, "-x509SVIDTTL", "20"):
            async with X509Source(spire.workload_api) as source, asyncio.timeout(SECONDS):
                first = source.snapshot()
                second = await source.changed(first.generation)
        assert (first.svid.spiffe_id, second.svid.spiffe_id) == (WEB, WEB)
        assert first.svid.serial != second.svid.serial
        assert first.svid.not_after < second.svid.not_after
        assert first.bundles == second.bundles

    async def test_a_source_follows_new_deleted_and_recreated_entries(self, spire: Spire) -> None:
        with ExitStack() as web:
            web.enter_context(spire.entry("/web", PYTHON))
            async with X509Source(spire.workload_api) as source:
                with spire.entry("/db", PYTHON):
                    await until(source, WEB, DB)
                await until(source, WEB)
                assert source.last_error is None
                web.close()
                async with asyncio.timeout(SECONDS):
                    assert DENIED in str(await source.withdrawn())
                with pytest.raises(IdentityWithdrawnError, match=DENIED):
                    source.snapshot()
                web.enter_context(spire.entry("/web", PYTHON))
                async with asyncio.timeout(SECONDS):
                    assert (await source.changed()).svid.spiffe_id == WEB

    async def test_entering_without_an_entry_fails_with_the_reason(self, spire: Spire) -> None:
        clock = ManualClock()
        source = X509Source(spire.workload_api, clock=clock)
        entering = asyncio.create_task(source.__aenter__())
        await eventually(lambda: source.last_error is not None)
        clock.advance(30)
        with pytest.raises(LocalIdentityError, match="^no X509-SVID in 30 s: .*" + DENIED):
            await entering

    async def test_entering_waits_for_an_entry_created_later(self, spire: Spire) -> None:
        source = X509Source(spire.workload_api, timeout=None)
        entering = asyncio.create_task(source.__aenter__())
        await eventually(lambda: source.last_error is not None)
        with spire.entry("/web", PYTHON):
            await entering
        assert source.snapshot().svid.spiffe_id == WEB
        await source.__aexit__(None, None, None)


class TestJwtSource:
    async def test_the_agents_token_validates_here_and_at_spire_for_its_audience_only(
        self, spire: Spire, client: WorkloadApiClient
    ) -> None:
        with spire.entry("/web", PYTHON):
            async with JwtSource(spire.workload_api) as source:
                svid = await source.fetch("db")
                assert (svid.spiffe_id, tuple(svid.audience)) == (WEB, ("db",))
                assert source.validate(svid.token, "db").spiffe_id == WEB
                assert (await client.validate_jwt_svid(svid.token, "db")).spiffe_id == WEB
                with pytest.raises(InvalidSvidError) as refused:
                    source.validate(svid.token, "mail")
                assert str(refused.value) == f"JWT-SVID of {WEB}: it is meant for 'db', not for 'mail'"
                with pytest.raises(InvalidSvidError, match="refused by the Workload API .*audience"):
                    await client.validate_jwt_svid(svid.token, "mail")

    async def test_a_token_of_one_of_our_identities_can_be_asked_for(self, spire: Spire) -> None:
        with spire.entry("/web", PYTHON), spire.entry("/db", PYTHON):
            async with X509Source(spire.workload_api) as identities, JwtSource(spire.workload_api) as source:
                await until(identities, WEB, DB)
                for spiffe_id in (WEB, DB):
                    assert (await source.fetch("mail", spiffe_id=spiffe_id)).spiffe_id == spiffe_id


class TestFederation:
    async def test_a_partners_bundle_comes_only_to_an_entry_that_federates_with_it(self, spire: Spire) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        partner = replace(make_authority(str(PARTNER)).bundle, jwt_authorities={"k": key.public_key()})
        spire.federate(str(PARTNER), partner.to_jwks())
        theirs = SpiffeId(PARTNER, "/app")
        token = sign(theirs, ["web"], key=key, key_id="k", now=datetime.now(UTC), ttl=timedelta(minutes=5)).token
        with spire.entry("/web", PYTHON):
            async with X509Source(spire.workload_api) as source, JwtSource(spire.workload_api) as tokens:
                assert source.snapshot().bundles.get(PARTNER) is None
                with pytest.raises(NoBundleError):
                    tokens.validate(token, "web")
                with spire.entry("/db", PYTHON, "-federatesWith", f"spiffe://{PARTNER}"):
                    context = await until(source, WEB, DB)
                    assert context.bundles[PARTNER].x509_authorities == partner.x509_authorities
                    await eventually(lambda: "gen 2" in repr(tokens))
                    assert tokens.validate(token, "web").spiffe_id == theirs
