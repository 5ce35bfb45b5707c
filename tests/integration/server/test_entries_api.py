"""Registration entries over the API, by the socket and by mutual TLS."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.errors import ConflictError, LocalIdentityError, MeshtlsError, NotFoundError, RequestError
from meshtls.registration import Entry, EntryFilter, Selector
from meshtls.serverapi.admin import AdminClient
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.x509 import X509Svid
from tests.support.certs import NOW
from tests.support.clock import ManualClock
from tests.support.server import TD, ServerUnderTest, config_for, entry, new_csr, started

NODE = SpiffeId(TD, "/node")
EVERYTHING = EntryFilter()


async def listed(admin: AdminClient, wanted: EntryFilter = EVERYTHING, page_size: int = 0) -> list[Entry]:
    return [one async for one in admin.entries(wanted, page_size)]


async def test_an_entry_is_created_fetched_updated_counted_and_deleted(server: ServerUnderTest) -> None:
    admin = server.admin
    wanted = entry("/web", NODE, federates_with=(TrustDomain("b.test"),), dns_names=("web",), hint="h", expires_at=NOW)
    [made] = await admin.create_entries([wanted])
    assert made == replace(wanted, id=made.id, revision=made.revision, created=made.revision)
    assert await admin.entry(made.id) == made
    changed = await admin.update_entry(replace(made, hint="other", x509_svid_ttl=60))
    assert (changed.hint, changed.x509_svid_ttl, changed.revision > made.revision) == ("other", 60, True)
    assert changed.created == made.created
    assert (await admin.update_entry(replace(changed, created=99))).created == made.created
    assert await admin.count_entries() == 1
    await admin.delete_entries([made.id])
    assert await admin.count_entries() == 0
    with pytest.raises(NotFoundError, match=f"^entry {made.id}: no entry has this id$"):
        await admin.entry(made.id)


async def test_entries_are_listed_page_by_page_and_by_filter(server: ServerUnderTest) -> None:
    admin = server.admin
    made = await admin.create_entries(entry(f"/w{n}", NODE, f"unix:uid:{n}", "unix:gid:1") for n in range(7))
    assert await listed(admin, page_size=3) == sorted(made, key=lambda one: one.id)
    wanted = EntryFilter(parent_id=NODE, selectors=(Selector("unix", "uid:4"),))
    assert [one.spiffe_id.path for one in await listed(admin, wanted)] == ["/w4"]
    assert await admin.count_entries(EntryFilter(spiffe_id=SpiffeId(TD, "/w5"))) == 1
    assert await listed(admin, EntryFilter(hint="no such")) == []


@pytest.mark.parametrize(("seconds", "told"), [(43_200, False), (43_201, True)])
async def test_a_ttl_that_the_ca_may_shorten_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: int, told: bool
) -> None:
    async with started(config_for(tmp_path, ca_ttl=timedelta(days=1))) as server:
        [made] = await server.admin.create_entries([entry("/web", NODE)])
        with caplog.at_level(logging.WARNING, "meshtls.server"):
            await server.admin.update_entry(replace(made, x509_svid_ttl=seconds))
    warning = (
        "entry of spiffe://example.org/web: x509_svid_ttl of 43201 s is more than half of ca_ttl (43200 s): an SVID"
        " expires with the certificate that signed it, which may have only that half left"
    )
    assert caplog.messages == [warning] * told


@pytest.mark.parametrize(("seconds", "taken"), [(0, False), (1, True)])
async def test_an_expiry_in_the_past_is_refused(tmp_path: Path, seconds: int, taken: bool) -> None:
    clock = ManualClock()
    end = clock.now() + timedelta(seconds=seconds)
    async with started(config_for(tmp_path), clock) as server:
        [lasting] = await server.admin.create_entries([entry("/lasting", NODE)])
        if taken:
            assert (await server.admin.update_entry(replace(lasting, expires_at=end))).expires_at == end
            return
        for call in (
            lambda: server.admin.create_entries([entry("/web", NODE, expires_at=end)]),
            lambda: server.admin.update_entry(replace(lasting, expires_at=end)),
        ):
            with pytest.raises(RequestError, match=r": expires_at: wanted a time in the future, as an expired entry"):
                await call()
        assert await listed(server.admin) == [lasting]


async def test_a_batch_with_one_bad_entry_leaves_none(server: ServerUnderTest) -> None:
    foreign = replace(
        entry("/b", NODE), spiffe_id=SpiffeId.parse("spiffe://b.test/b"), parent_id=SpiffeId.parse("spiffe://b.test/n")
    )
    with pytest.raises(RequestError) as refused:
        await server.admin.create_entries([entry("/a", NODE), foreign])
    assert str(refused.value) == "spiffe://b.test/b: this server registers for example.org only"
    assert await server.admin.count_entries() == 0
    await server.admin.create_entries([entry("/a", NODE)])
    with pytest.raises(ConflictError, match="already has this parent, ID and selectors"):
        await server.admin.create_entries([entry("/b", NODE), entry("/a", NODE)])
    assert await server.admin.count_entries() == 1


async def test_two_concurrent_updates_of_an_entry_do_not_overwrite_each_other(server: ServerUnderTest) -> None:
    [read] = await server.admin.create_entries([entry("/web", NODE)])
    newer = await server.admin.update_entry(replace(read, hint="theirs"))
    with pytest.raises(ConflictError, match="it was changed to revision"):
        await server.admin.update_entry(replace(read, hint="mine"))
    assert (await server.admin.update_entry(replace(newer, hint="mine"))).hint == "mine"


@pytest.mark.parametrize("size", [-1, 1001])
async def test_an_impossible_page_size_is_refused(size: int, server: ServerUnderTest) -> None:
    with pytest.raises(RequestError, match=rf"^page size {size}: wanted 0 \(for 1000\) to 1000$"):
        await listed(server.admin, page_size=size)
    assert await listed(server.admin, page_size=1000) == []


async def admin_over_tls(server: ServerUnderTest, path: str) -> AdminClient:
    """A client with an SVID of this ID, whatever its entry says."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = await server.admin.mint_x509(SpiffeId(TD, path), new_csr(key))
    return AdminClient(server.mutual(X509Svid.from_chain(chain, key), await server.admin.bundle()))


async def test_an_identity_whose_entry_is_marked_admin_administers_over_mutual_tls(server: ServerUnderTest) -> None:
    await server.admin.create_entries([entry("/operator", NODE, admin=True), entry("/web", NODE)])
    operator = await admin_over_tls(server, "/operator")
    assert await operator.count_entries() == 2
    workload = await admin_over_tls(server, "/web")
    with pytest.raises(LocalIdentityError):
        await workload.count_entries()


async def test_an_administrator_whose_entry_goes_is_refused_on_the_connection_it_has(server: ServerUnderTest) -> None:
    [made] = await server.admin.create_entries([entry("/operator", NODE, admin=True)])
    operator = await admin_over_tls(server, "/operator")
    assert await operator.count_entries() == 1
    await server.admin.delete_entries([made.id])
    with pytest.raises(MeshtlsError) as refused:
        await operator.count_entries()
    assert str(refused.value) == (
        "spiffe://example.org/operator: wanted an agent, or an identity whose entry is marked admin or downstream"
    )


async def test_health_shows_the_servers_view(server: ServerUnderTest) -> None:
    await server.admin.create_entries([entry("/web", NODE)])
    health = await server.admin.health()
    assert (health.ready, health.waiting_for, health.entries, health.trust_domain) == (True, "", 1, "example.org")
    assert health.server_id == server.running.server_id
