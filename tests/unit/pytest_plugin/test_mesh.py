"""The fixture's identities: good ones that rotate, and bad ones that are refused for their specific fault."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import meshtls
from meshtls import X509Source, authorize_any, authorize_id, client_context, server_context
from meshtls.errors import (
    IdentityWithdrawnError,
    InvalidSpiffeIdError,
    InvalidSvidError,
    LocalIdentityError,
    NoBundleError,
    NotAuthorizedError,
    PeerError,
    RequestError,
    UntrustedPeerError,
    ValidityError,
)
from meshtls.pytest import Mesh
from meshtls.tls.keys import load_svid
from meshtls.workload.failures import WorkloadApiError


class TestNames:
    @pytest.mark.parametrize(
        ("name", "spiffe_id"),
        [
            ("service-a", "spiffe://example.org/service-a"),
            ("/service-a", "spiffe://example.org/service-a"),
            ("ns/default/sa/web", "spiffe://example.org/ns/default/sa/web"),
            ("spiffe://example.org/web", "spiffe://example.org/web"),
            ("spiffe://other.test/web", "spiffe://other.test/web"),
        ],
    )
    def test_a_name_is_an_id(self, mesh: Mesh, name: str, spiffe_id: str) -> None:
        assert str(mesh.id(name)) == spiffe_id
        assert mesh.id(mesh.id(name)) == mesh.id(name)

    def test_an_impossible_id_is_refused(self, mesh: Mesh) -> None:
        with pytest.raises(InvalidSpiffeIdError):
            mesh.id("service a")

    def test_every_kind_of_identity_of_another_trust_domain_is_refused(self, mesh: Mesh) -> None:
        for make in (mesh.source, mesh.foreign, mesh.expired, mesh.workload_api):
            with pytest.raises(RequestError, match=r"issues for trust domain example\.org only"):
                make("spiffe://other.test/web")


class TestSource:
    def test_rotation_gives_a_new_key_and_certificate_of_the_same_id(self, mesh: Mesh) -> None:
        source = mesh.source("web")
        before = source.snapshot()
        after = source.rotate()
        assert (before.generation, after.generation) == (1, 2)
        assert source.snapshot() is after
        assert before.svid.spiffe_id == after.svid.spiffe_id == mesh.id("web")
        assert before.svid.serial != after.svid.serial == source.serial
        assert before.svid.leaf.public_key() != after.svid.leaf.public_key()

    def test_the_svids_lifetime_and_dns_names_can_be_chosen(self, mesh: Mesh) -> None:
        source = mesh.source("web", ttl=timedelta(minutes=5), dns_names=["web.test"])
        left = source.snapshot().svid.not_after - datetime.now(UTC)
        assert timedelta(minutes=4) < left <= timedelta(minutes=5)
        assert b"web.test" in source.snapshot().svid.chain_der()

    def test_a_source_trusts_the_other_trust_domains_given_to_it(self, mesh: Mesh) -> None:
        partner = Mesh("partner.test")
        caller = partner.source("web", trusts=[mesh.bundle])
        alone = server_context(mesh.source("db"), authorize_any())
        federated = server_context(mesh.source("db", trusts=[partner.bundle]), authorize_any())
        assert mesh.handshake(caller, federated).spiffe_id == partner.id("web")
        with pytest.raises(NoBundleError, match=r"no bundle for trust domain partner\.test"):
            mesh.handshake(caller, alone)

    def test_two_meshes_share_nothing(self, mesh: Mesh) -> None:
        with Mesh() as other, pytest.raises(UntrustedPeerError):
            mesh.handshake(mesh.source("web"), server_context(other.source("db"), authorize_any()))


class TestHandshake:
    def test_the_handshake_helper_returns_the_servers_view_of_the_client(self, mesh: Mesh) -> None:
        client = mesh.source("web")
        peer = mesh.handshake(client, server_context(mesh.source("db"), authorize_id(mesh.id("web"))))
        assert (peer.spiffe_id, peer.serial) == (mesh.id("web"), client.serial)

    @pytest.mark.parametrize(
        ("kind", "error", "words"),
        [
            ("foreign", UntrustedPeerError, "no path to a root of the bundle of trust domain example.org"),
            ("expired", ValidityError, "peer spiffe://example.org/web: its certificate"),
        ],
    )
    def test_a_bad_client_is_refused_for_its_own_fault(
        self, mesh: Mesh, kind: str, error: type[PeerError], words: str
    ) -> None:
        server = server_context(mesh.source("db"), authorize_id(mesh.id("web")))
        with pytest.raises(error, match=words):
            mesh.handshake(getattr(mesh, kind)("web"), server)
        mesh.handshake(mesh.source("web"), server)

    def test_a_client_of_another_id_is_not_allowed(self, mesh: Mesh) -> None:
        server = server_context(mesh.source("db"), authorize_id(mesh.id("web")))
        with pytest.raises(NotAuthorizedError, match="peer spiffe://example.org/other is not allowed"):
            mesh.handshake(mesh.source("other"), server)

    @pytest.mark.parametrize(("kind", "error"), [("foreign", UntrustedPeerError), ("expired", ValidityError)])
    def test_a_bad_server_is_refused_by_the_client(self, mesh: Mesh, kind: str, error: type[PeerError]) -> None:
        with pytest.raises(error, match="peer spiffe://example.org/db"):
            mesh.handshake(mesh.source("web"), server_context(getattr(mesh, kind)("db"), authorize_any()))

    def test_a_clients_own_context_judges_the_server(self, mesh: Mesh) -> None:
        client = client_context(mesh.source("web"), authorize_id(mesh.id("db")))
        mesh.handshake(client, server_context(mesh.source("db"), authorize_any()))
        with pytest.raises(NotAuthorizedError, match="the server is spiffe://example.org/other; expected: "):
            mesh.handshake(client, server_context(mesh.source("other"), authorize_any()))

    def test_a_server_that_verifies_nobody_is_no_success(self, mesh: Mesh) -> None:
        careless = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_svid(careless, mesh.source("db").snapshot().svid)
        with pytest.raises(RequestError, match=r"wanted a server context of meshtls\.server_context"):
            mesh.handshake(mesh.source("web"), careless)


class TestWorkloadApi:
    async def test_watchers_see_a_rotation_and_the_end_of_the_identity(self, mesh: Mesh) -> None:
        api = mesh.workload_api("web")
        async with X509Source(api.address) as source, asyncio.timeout(20):
            first = source.snapshot()
            assert (first.svid.spiffe_id, first.svid.serial) == (mesh.id("web"), api.serial)
            api.rotate()
            second = await source.changed(first.generation)
            assert second.svid.serial == api.serial != first.svid.serial
            api.revoke()
            async with meshtls.WorkloadApiClient(api.address) as client:
                with pytest.raises(WorkloadApiError, match="PERMISSION_DENIED"):
                    await client.fetch_x509_context()
            with pytest.raises(IdentityWithdrawnError, match="PERMISSION_DENIED"):
                await asyncio.wait_for(_until_lost(source), 20)
            with pytest.raises(RequestError, match="the identity was revoked"):
                api.rotate()
            api.restore()
            third = await source.changed(second.generation)
            assert third.svid.serial == api.serial != second.svid.serial

    def test_a_workload_api_as_a_context_manager_ends_with_the_block(self, mesh: Mesh) -> None:
        with mesh.workload_api("web") as api, meshtls.blocking(X509Source(api.address)) as source:
            assert source.snapshot().svid.spiffe_id == mesh.id("web")

        assert not Path(api.address.removeprefix("unix://")).parent.exists()
        after = mesh.workload_api("web")
        assert Path(after.address.removeprefix("unix://")).exists()

    async def test_two_workload_apis_are_two_identities_of_one_trust_domain(self, mesh: Mesh) -> None:
        async with (
            X509Source(mesh.workload_api("web").address) as web,
            X509Source(mesh.workload_api("db").address) as db,
        ):
            peer = mesh.handshake(web, server_context(db, authorize_id(mesh.id("web"))))
            assert peer.spiffe_id == mesh.id("web")
            mesh.handshake(mesh.source("web"), server_context(db, authorize_id(mesh.id("web"))))

    async def test_a_token_of_one_workload_api_is_validated_by_the_other(self, mesh: Mesh) -> None:
        web, db = mesh.workload_api("web"), mesh.workload_api("db")
        async with meshtls.WorkloadApiClient(web.address) as client, meshtls.WorkloadApiClient(db.address) as other:
            (token,) = await client.fetch_jwt_svids(["db"])
            assert (await other.validate_jwt_svid(token.token, "db")).spiffe_id == mesh.id("web")
            with pytest.raises(InvalidSvidError, match="refused by the Workload API"):
                await other.validate_jwt_svid(token.token, "somebody else")

    def test_the_workload_api_is_gone_after_the_test(self) -> None:
        with Mesh() as mesh:
            api = mesh.workload_api("web")
        with pytest.raises(meshtls.LocalIdentityError, match="cannot connect"):
            asyncio.run(X509Source(api.address, timeout=0.01).__aenter__())


async def _until_lost(source: X509Source) -> None:
    await source.withdrawn()
    source.snapshot()


def test_a_source_that_was_revoked_makes_no_connection_until_it_is_rotated(mesh: Mesh) -> None:
    client, server = mesh.source("web"), mesh.source("db")
    context = server_context(server, authorize_id(mesh.id("web")))
    assert mesh.handshake(client, context).spiffe_id == mesh.id("web")
    client.revoke()
    with pytest.raises(IdentityWithdrawnError, match="^X509-SVID withdrawn: .*/web was revoked by the test$"):
        client.snapshot()
    with pytest.raises(LocalIdentityError, match="was revoked by the test"):
        mesh.handshake(client, context)
    client.rotate()
    assert mesh.handshake(client, context).spiffe_id == mesh.id("web")
