"""The spiffe package from the index, unmodified, as a client of our agent: all five methods."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agent import Mesh, entry

if TYPE_CHECKING:
    from spiffe import WorkloadApiClient

pytest.importorskip("spiffe", reason="the spiffe package, of the dev extra, is the client")


@pytest.fixture
async def spiffe(mesh: Mesh) -> AsyncIterator[WorkloadApiClient]:
    from spiffe import WorkloadApiClient

    client = WorkloadApiClient(mesh.agent.address, default_timeout=20)
    yield client
    await asyncio.to_thread(client.close)


async def test_the_spiffe_package_fetches_x509_svids_and_bundles(mesh: Mesh, spiffe: WorkloadApiClient) -> None:
    mesh.upstream.put_entry(entry("/web", federates_with=["partner.org"]))
    svid = await asyncio.to_thread(spiffe.fetch_x509_svid)
    assert str(svid.spiffe_id) == "spiffe://example.org/web"
    assert svid.cert_chain[1] == mesh.authority.intermediate.certificate
    bundles = await asyncio.to_thread(spiffe.fetch_x509_bundles)
    assert {str(bundle.trust_domain) for bundle in bundles.bundles} == {"example.org", "partner.org"}


async def test_the_spiffe_package_fetches_and_validates_jwt_svids(mesh: Mesh, spiffe: WorkloadApiClient) -> None:
    svid = await asyncio.to_thread(spiffe.fetch_jwt_svid, {"db"})
    assert (str(svid.spiffe_id), set(svid.audience)) == ("spiffe://example.org/web", {"db"})
    validated = await asyncio.to_thread(spiffe.validate_jwt_svid, svid.token, "db")
    assert validated.spiffe_id == svid.spiffe_id
    bundles = await asyncio.to_thread(spiffe.fetch_jwt_bundles)
    own = mesh.upstream.bundles[mesh.upstream.trust_domain].jwt_authorities
    assert [list(bundle.jwt_authorities) for bundle in bundles.bundles] == [list(own)]


async def test_the_spiffe_package_validates_our_token_by_our_bundle(spiffe: WorkloadApiClient) -> None:
    from spiffe import JwtSvid, TrustDomain

    svid = await asyncio.to_thread(spiffe.fetch_jwt_svid, {"db"})
    bundles = await asyncio.to_thread(spiffe.fetch_jwt_bundles)
    bundle = bundles.get_bundle_for_trust_domain(TrustDomain("example.org"))
    assert bundle is not None
    assert JwtSvid.parse_and_validate(svid.token, bundle, {"db"}).spiffe_id == svid.spiffe_id


async def test_the_stream_sends_new_entries_and_rotations_and_is_denied_after_the_last_entry(
    mesh: Mesh, spiffe: WorkloadApiClient
) -> None:
    seen: queue.Queue[Any] = queue.Queue()
    stream = spiffe.stream_x509_contexts(seen.put, seen.put, retry_connect=False)

    async def paths_and_serials() -> tuple[list[str], list[int]]:
        context = await asyncio.to_thread(seen.get, timeout=20)
        svids = context.x509_svids
        return [str(one.spiffe_id.path) for one in svids], [one.leaf.serial_number for one in svids]

    assert (await paths_and_serials())[0] == ["/web"]
    mesh.upstream.put_entry(entry("/db"))
    paths, old = await paths_and_serials()
    assert paths == ["/web", "/db"]
    await mesh.clock.until_sleepers(1)
    mesh.clock.advance(1801)
    paths, new = await paths_and_serials()
    assert paths == ["/web", "/db"]
    assert not set(old) & set(new)
    mesh.upstream.remove_entry("/db")
    assert (await paths_and_serials())[0] == ["/web"]
    mesh.upstream.remove_entry("/web")
    assert str(await asyncio.to_thread(seen.get, timeout=20)) == "gRPC error: StatusCode.PERMISSION_DENIED"
    await asyncio.to_thread(stream.cancel)


async def test_the_jwt_bundle_stream_is_denied_when_the_entry_is_deleted(mesh: Mesh, spiffe: WorkloadApiClient) -> None:
    seen: queue.Queue[Any] = queue.Queue()
    stream = spiffe.stream_jwt_bundles(seen.put, seen.put, retry_connect=False)
    bundles = await asyncio.to_thread(seen.get, timeout=20)
    assert [str(bundle.trust_domain) for bundle in bundles.bundles] == ["example.org"]
    mesh.upstream.remove_entry("/web")
    assert str(await asyncio.to_thread(seen.get, timeout=20)) == "gRPC error: StatusCode.PERMISSION_DENIED"
    await asyncio.to_thread(stream.cancel)


async def test_a_caller_without_an_identity_is_denied(mesh: Mesh, spiffe: WorkloadApiClient) -> None:
    from spiffe.workloadapi.errors import FetchX509SvidError

    await asyncio.to_thread(spiffe.fetch_x509_svid)
    mesh.upstream.remove_entry("/web")
    with pytest.raises(FetchX509SvidError, match="no identity issued"):
        await asyncio.to_thread(spiffe.fetch_x509_svid)
