"""The spiffe package from the index, unmodified, as a client of the Workload API of these tests.

It shows that the server used in our client's tests conforms to the standard, not only to our client.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from grpclib import Status

from meshtls.ca.authority import Authority
from tests.support.authority import context_for, make_authority
from tests.support.workload_api import WorkloadApi

if TYPE_CHECKING:
    from spiffe import WorkloadApiClient
    from spiffe.workloadapi.x509_context import X509Context

pytest.importorskip("spiffe", reason="the spiffe package, of the dev extra, is the client")


@pytest.fixture
async def client(api: WorkloadApi) -> AsyncIterator[WorkloadApiClient]:
    from spiffe import WorkloadApiClient

    client = WorkloadApiClient(api.address)
    yield client
    await asyncio.to_thread(client.close)


async def test_the_spiffe_package_fetches_x509_svids_and_bundles(
    api: WorkloadApi, authority: Authority, client: WorkloadApiClient
) -> None:
    api.push(context_for(authority, "/web", federated=[make_authority("partner.test").bundle]))
    svid = await asyncio.to_thread(client.fetch_x509_svid)
    assert (str(svid.spiffe_id), tuple(svid.cert_chain)) == ("spiffe://example.org/web", api.context.svid.chain)
    bundles = await asyncio.to_thread(client.fetch_x509_bundles)
    assert {str(bundle.trust_domain) for bundle in bundles.bundles} == {"example.org", "partner.test"}


async def test_the_spiffe_package_fetches_and_validates_jwt_svids(api: WorkloadApi, client: WorkloadApiClient) -> None:
    svid = await asyncio.to_thread(client.fetch_jwt_svid, {"db"})
    assert (str(svid.spiffe_id), set(svid.audience)) == ("spiffe://example.org/web", {"db"})
    validated = await asyncio.to_thread(client.validate_jwt_svid, svid.token, "db")
    assert (validated.token, validated.spiffe_id) == (svid.token, svid.spiffe_id)
    bundles = await asyncio.to_thread(client.fetch_jwt_bundles)
    assert [list(bundle.jwt_authorities) for bundle in bundles.bundles] == [["jwt-1"]]


async def test_the_spiffe_packages_stream_sends_a_rotation(
    api: WorkloadApi, authority: Authority, client: WorkloadApiClient
) -> None:
    seen: queue.Queue[X509Context] = queue.Queue()
    failed: queue.Queue[Exception] = queue.Queue()
    stream = client.stream_x509_contexts(seen.put, failed.put)
    for _ in range(2):
        context = await asyncio.to_thread(seen.get, timeout=20)
        assert tuple(context.default_svid.cert_chain) == api.context.svid.chain
        api.push(context_for(authority, "/web"))
    await asyncio.to_thread(stream.cancel)
    assert failed.empty()


async def test_a_client_without_an_identity_is_refused(api: WorkloadApi, client: WorkloadApiClient) -> None:
    from spiffe.workloadapi.errors import FetchX509SvidError

    api.refuse(Status.PERMISSION_DENIED)
    with pytest.raises(FetchX509SvidError, match="no identity issued"):
        await asyncio.to_thread(client.fetch_x509_svid)
