"""grpc.aio as far as its credentials go: the server rotates, verifies and authorizes; the client checks a DNS name."""

from __future__ import annotations

import grpc
import pytest

from examples import grpc_aio_client, grpc_aio_server
from meshtls import LocalIdentityError, X509Context, authorize_any, authorize_id
from meshtls.bundle import BundleSet
from meshtls.pytest.mesh import Mesh
from meshtls.svid.context import ConstantSource
from tests.support.authority import Leaf, make_authority, mint_raw

NAME = "server.example.org"


class Replaceable:
    """A source whose context a test sets; with None its SVID has expired."""

    def __init__(self, context: X509Context) -> None:
        self.context: X509Context | None = context

    def snapshot(self) -> X509Context:
        if self.context is None:
            raise LocalIdentityError("our SVID has expired")
        return self.context


async def test_a_call_over_a_new_channel_uses_the_newest_svids(mesh: Mesh) -> None:
    client, server = mesh.source("client"), mesh.source("server", dns_names=[NAME])
    async with grpc_aio_server.serving(server, authorize_id(mesh.id("client")), "127.0.0.1", 0) as port:
        for _ in range(2):
            answer = await grpc_aio_client.fetch(client, f"127.0.0.1:{port}", NAME)
            assert answer == f"hello spiffe://example.org/client, certificate {client.serial}"
            client.rotate()
            server.rotate()


async def test_the_server_shows_its_newest_svid(mesh: Mesh) -> None:
    server, client = Replaceable(mesh.source("server", dns_names=["old.example.org"]).snapshot()), mesh.source("client")
    async with grpc_aio_server.serving(server, authorize_any(), "127.0.0.1", 0) as port:
        with pytest.raises(grpc.aio.AioRpcError, match="Hostname Verification Check failed"):
            await grpc_aio_client.fetch(client, f"127.0.0.1:{port}", NAME)
        server.context = mesh.source("server", dns_names=[NAME]).snapshot()
        answer = await grpc_aio_client.fetch(client, f"127.0.0.1:{port}", NAME)
    assert answer.startswith("hello spiffe://example.org/client")


async def test_a_client_of_another_id_is_denied_before_the_handler_runs(mesh: Mesh) -> None:
    server = mesh.source("server", dns_names=[NAME])
    async with grpc_aio_server.serving(server, authorize_id(mesh.id("client")), "127.0.0.1", 0) as port:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await grpc_aio_client.fetch(mesh.source("stranger"), f"127.0.0.1:{port}", NAME)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert refused.value.details() == (
        "peer spiffe://example.org/stranger is not allowed to reach spiffe://example.org/server;"
        " allowed: spiffe://example.org/client"
    )


async def test_a_partners_ca_cannot_mint_our_ids_though_its_bundle_is_known(mesh: Mesh) -> None:
    partner = make_authority("partner.test")
    minted = mint_raw(partner, Leaf(uris=(str(mesh.id("client")),)))
    impostor = ConstantSource(X509Context(1, (minted,), BundleSet([mesh.bundle])))
    server = mesh.source("server", dns_names=[NAME], trusts=[partner.bundle])
    async with grpc_aio_server.serving(server, authorize_any(), "127.0.0.1", 0) as port:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await grpc_aio_client.fetch(impostor, f"127.0.0.1:{port}", NAME)
        answer = await grpc_aio_client.fetch(mesh.source("client"), f"127.0.0.1:{port}", NAME)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert answer.startswith("hello spiffe://example.org/client")


async def test_a_client_refuses_a_server_of_a_foreign_ca(mesh: Mesh) -> None:
    async with grpc_aio_server.serving(mesh.foreign("server"), authorize_any(), "127.0.0.1", 0) as port:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await grpc_aio_client.fetch(mesh.source("client"), f"127.0.0.1:{port}", NAME)
    assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.details())


async def test_a_server_whose_svid_has_ended_answers_no_call(mesh: Mesh) -> None:
    server = Replaceable(mesh.source("server", dns_names=[NAME]).snapshot())
    async with grpc_aio_server.serving(server, authorize_any(), "127.0.0.1", 0) as port:
        server.context = None
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await grpc_aio_client.fetch(mesh.source("client"), f"127.0.0.1:{port}", NAME)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert refused.value.details() == "this server has no valid identity now"


async def test_without_a_bundle_of_its_own_trust_domain_nobody_is_trusted(mesh: Mesh) -> None:
    context = X509Context(1, mesh.source("web").snapshot().svids, BundleSet([Mesh("partner.test").bundle]))
    message = f"^{mesh.id('web')}: wanted a bundle of its own trust domain, got none$"
    with pytest.raises(LocalIdentityError, match=message):
        grpc_aio_client.credentials(context)
    with pytest.raises(LocalIdentityError, match=message):
        grpc_aio_server.credentials(ConstantSource(context))
