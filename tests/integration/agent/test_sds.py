"""SDS over a real socket, by calls as Envoy makes them: each caller's secrets, and the errors."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.client import Channel

from meshtls.agent.sds_secrets import SECRET_TYPE
from meshtls.proto.envoy import discovery_pb as pb
from meshtls.proto.envoy import tls_pb
from meshtls.proto.envoy.secret_grpc import SecretDiscoveryServiceStub
from tests.support.agent import Mesh, entry, eventually
from tests.support.waiting import SECONDS


@pytest.fixture
async def sds(mesh: Mesh) -> AsyncIterator[SecretDiscoveryServiceStub]:
    channel = Channel(path=str(mesh.agent.endpoint.socket_path))
    yield SecretDiscoveryServiceStub(channel)
    channel.close()


def names(response: pb.DiscoveryResponse | None) -> list[str]:
    assert response is not None
    return [tls_pb.Secret.FromString(one.value).name for one in response.resources]


async def ended(stream: Any) -> None:
    assert await stream.recv_message() is None
    await stream.recv_trailing_metadata()


@contextmanager
def denied() -> Iterator[None]:
    """The body's calls end with PERMISSION_DENIED, which grpclib reports at the end of a stream."""
    with pytest.raises(GRPCError) as raised:
        yield
    assert (raised.value.status, raised.value.message) == (Status.PERMISSION_DENIED, "no identity issued")


async def test_a_fetch_returns_the_requested_secrets_of_its_caller(sds: SecretDiscoveryServiceStub) -> None:
    request = pb.DiscoveryRequest(resource_names=["ROOTCA", "default", "spiffe://example.org/db"])
    assert names(await sds.FetchSecrets(request, timeout=SECONDS)) == ["ROOTCA", "default"]
    everything = await sds.FetchSecrets(pb.DiscoveryRequest(), timeout=SECONDS)
    assert names(everything) == ["ALL", "ROOTCA", "default", "spiffe://example.org", "spiffe://example.org/web"]


async def test_fetching_an_unknown_resource_is_not_found(sds: SecretDiscoveryServiceStub) -> None:
    with pytest.raises(
        GRPCError, match="no such secret; available to the caller: spiffe://example.org/web, default,"
    ) as raised:
        await sds.FetchSecrets(pb.DiscoveryRequest(resource_names=["spiffe://example.org/db"]), timeout=SECONDS)
    assert raised.value.status is Status.NOT_FOUND


async def test_a_stream_sends_each_change_and_is_denied_when_the_entry_is_deleted(
    mesh: Mesh, sds: SecretDiscoveryServiceStub
) -> None:
    with denied():
        await follow_until_denied(mesh, sds)


async def follow_until_denied(mesh: Mesh, sds: SecretDiscoveryServiceStub) -> None:
    async with sds.StreamSecrets.open(timeout=20) as stream:
        await stream.send_message(pb.DiscoveryRequest(resource_names=["default", "spiffe://example.org/db"]))
        first = await stream.recv_message()
        assert names(first) == ["default"]
        mesh.upstream.put_entry(entry("/db"))
        second = await stream.recv_message()
        assert names(second) == ["default", "spiffe://example.org/db"]
        for one in mesh.upstream.entries:
            mesh.upstream.remove_entry(one.id)
        await ended(stream)


async def test_a_delta_stream_brings_each_change(mesh: Mesh, sds: SecretDiscoveryServiceStub) -> None:
    async with sds.DeltaSecrets.open(timeout=20) as stream:
        names = ["spiffe://example.org/web", "spiffe://example.org/db"]
        await stream.send_message(pb.DeltaDiscoveryRequest(resource_names_subscribe=names))
        first = await stream.recv_message()
        assert first is not None
        assert ([one.name for one in first.resources], [*first.removed_resources]) == (names[:1], names[1:])
        mesh.upstream.put_entry(entry("/db"))
        second = await stream.recv_message()
        assert second is not None
        assert [one.name for one in second.resources] == names[1:]
        await stream.cancel()


async def test_a_delta_stream_names_removed_resources_before_it_is_denied(
    mesh: Mesh, sds: SecretDiscoveryServiceStub
) -> None:
    with denied():
        async with sds.DeltaSecrets.open(timeout=20) as stream:
            await stream.send_message(pb.DeltaDiscoveryRequest(resource_names_subscribe=["default", "ROOTCA"]))
            first = await stream.recv_message()
            assert first is not None
            assert [one.name for one in first.resources] == ["ROOTCA", "default"]
            mesh.upstream.remove_entry("/web")
            second = await stream.recv_message()
            assert second is not None
            assert (len(second.resources), [*second.removed_resources]) == (0, ["ROOTCA", "default"])
            await ended(stream)


async def test_a_refused_secret_is_logged_and_not_sent_again_before_it_changes(
    mesh: Mesh, sds: SecretDiscoveryServiceStub, caplog: pytest.LogCaptureFixture
) -> None:
    async with sds.StreamSecrets.open(timeout=20) as stream:
        await stream.send_message(pb.DiscoveryRequest(resource_names=["default"]))
        first = await stream.recv_message()
        assert first is not None
        refusal = pb.ErrorDetail(code=13, message="no such curve")
        await stream.send_message(
            pb.DiscoveryRequest(resource_names=["default"], response_nonce=first.nonce, error_detail=refusal)
        )
        await eventually(lambda: "rejected the update and keeps its present secrets: no such curve" in caplog.text)
        mesh.upstream.put_entry(entry("/web", dns_names=("web.example.org",)))
        second = await stream.recv_message()
        assert second is not None
        assert (first.nonce, second.nonce) == ("1", "2")
        assert first.version_info != second.version_info
        await stream.cancel()


async def test_an_unknown_name_is_logged_once_with_the_known_ones(
    sds: SecretDiscoveryServiceStub, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "meshtls.agent"):
        async with sds.StreamSecrets.open(timeout=20) as stream:
            await stream.send_message(pb.DiscoveryRequest(resource_names=["defualt", "default"]))
            first = await stream.recv_message()
            assert names(first) == ["default"]
            assert first is not None
            again = pb.DiscoveryRequest(resource_names=["defualt", "default", "ROOTCA"], response_nonce=first.nonce)
            await stream.send_message(again)
            assert names(await stream.recv_message()) == ["default", "ROOTCA"]
            await stream.cancel()
    [record] = caplog.records
    assert (
        "requests unknown secrets defualt; available to it: spiffe://example.org/web, default, " in record.getMessage()
    )


@pytest.mark.parametrize("method", ["StreamSecrets", "DeltaSecrets", "FetchSecrets"])
async def test_a_caller_without_an_entry_is_denied(mesh: Mesh, sds: SecretDiscoveryServiceStub, method: str) -> None:
    mesh.upstream.remove_entry("/web")
    await eventually(lambda: not len(mesh.agent.identities.cache.entries))
    with denied():
        await call(getattr(sds, method), pb.DeltaDiscoveryRequest() if "Delta" in method else pb.DiscoveryRequest())


CLUSTERS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
METHODS = ["StreamSecrets", "DeltaSecrets", "FetchSecrets"]


@pytest.mark.parametrize("method", METHODS)
async def test_a_request_for_another_resource_type_is_refused(sds: SecretDiscoveryServiceStub, method: str) -> None:
    with pytest.raises(GRPCError, match=f"^.*type_url: wanted {SECRET_TYPE}, got {CLUSTERS}") as raised:
        await call(getattr(sds, method), typed(method, CLUSTERS))
    assert raised.value.status is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("method", METHODS)
async def test_a_request_that_names_the_secret_type_is_served(sds: SecretDiscoveryServiceStub, method: str) -> None:
    async with getattr(sds, method).open(timeout=20) as stream:
        await stream.send_message(typed(method, SECRET_TYPE), end=True)
        assert (await stream.recv_message()).type_url == SECRET_TYPE
        await ended(stream)


def typed(method: str, type_url: str) -> Message:
    if method == "DeltaSecrets":
        return pb.DeltaDiscoveryRequest(resource_names_subscribe=["default"], type_url=type_url)
    return pb.DiscoveryRequest(resource_names=["default"], type_url=type_url)


async def call(method: Any, request: Message) -> None:
    async with method.open(timeout=20) as stream:
        await stream.send_message(request, end=True)
        await ended(stream)


async def test_an_sds_stream_whose_client_half_closes_is_ended(sds: SecretDiscoveryServiceStub) -> None:
    async with sds.StreamSecrets.open(timeout=20) as stream:
        await stream.send_message(pb.DiscoveryRequest(resource_names=["default"]), end=True)
        assert names(await stream.recv_message()) == ["default"]
        await ended(stream)
