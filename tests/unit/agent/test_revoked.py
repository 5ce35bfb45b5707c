"""What an agent does with CRLs: a revoked SVID is not served, another is due at once, and workloads get the CRLs."""

from __future__ import annotations

from datetime import timedelta

from meshtls.agent.cache import SvidCache
from meshtls.agent.upstream import Update
from meshtls.bundle import BundleSet
from meshtls.ca.keys.manager import Slot
from meshtls.revocation.building import CrlEntry, build_crl
from meshtls.revocation.lists import revocations_of
from tests.support.agent import OURS, SELF, entry, selectors
from tests.support.authority import make_authority, svid_for
from tests.support.clock import ManualClock

CLOCK = ManualClock()
NOW = CLOCK.now()
CA = make_authority(clock=CLOCK)
WEB, DB = entry("/web"), entry("/db")


def crl(*serials: int) -> bytes:
    signer = CA.intermediate
    entries = [CrlEntry(one, NOW) for one in serials]
    return build_crl(
        signer.certificate, signer.private_key, entries, number=1, now=NOW, next_update=NOW + timedelta(hours=1)
    )


def ca_crl(*serials: int) -> bytes:
    """A CRL of the root."""
    later = NOW + timedelta(hours=1)
    entries = [CrlEntry(one, NOW) for one in serials]
    return build_crl(CA.root, CA.keys.load()[Slot.ROOT].private_key, entries, number=1, now=NOW, next_update=later)


def test_an_svid_below_a_revoked_ca_is_dropped_and_one_that_comes_afterwards_is_not_served() -> None:
    cache = SvidCache(OURS)
    cache.apply(Update(entries=(WEB,), whole=True, bundles=BundleSet([CA.bundle])))
    web = svid_for(CA, WEB.spiffe_id)
    cache.signed(WEB, web, NOW, 0.0)
    elsewhere, listed = (
        revocations_of([ca_crl(one)]) for one in (web.chain[1].serial_number + 1, web.chain[1].serial_number)
    )
    cache.apply(Update(bundles=BundleSet([CA.bundle]), revocations=elsewhere))
    assert cache.svid_of(WEB.id) == web
    cache.apply(Update(bundles=BundleSet([CA.bundle]), revocations=listed))
    assert cache.svid_of(WEB.id) is None
    cache.signed(WEB, svid_for(CA, WEB.spiffe_id), NOW, 0.0)
    schedule = cache.schedule_of(WEB.id)
    assert cache.svid_of(WEB.id) is None
    assert schedule is not None
    assert (schedule.failures, schedule.last_error) == (1, "the server signed one that is revoked already")


def test_a_revoked_svid_is_dropped_and_due_and_the_others_are_served() -> None:
    cache = SvidCache(OURS)
    cache.apply(Update(entries=(WEB, DB), whole=True, bundles=BundleSet([CA.bundle])))
    web, db = (svid_for(CA, one.spiffe_id) for one in (WEB, DB))
    for one, svid in ((WEB, web), (DB, db)):
        cache.signed(one, svid, NOW, 0.0)
    number = cache.watchers.add(selectors(SELF))
    elsewhere = crl(web.leaf.serial_number + 1)
    assert cache.apply(Update(bundles=BundleSet([CA.bundle]), revocations=revocations_of([elsewhere]))) == {number}
    assert {one.spiffe_id for one in cache.view(selectors(SELF), NOW).svids} == {web.spiffe_id, db.spiffe_id}

    listed = crl(web.leaf.serial_number)
    assert cache.apply(Update(bundles=BundleSet([CA.bundle]), revocations=revocations_of([listed]))) == {number}
    view = cache.view(selectors(SELF), NOW)
    assert ([one.spiffe_id for one in view.svids], view.pending) == ([db.spiffe_id], 1)
    assert view.revocations == revocations_of([listed])
    assert cache.due(NOW) == (WEB,)
    assert cache.apply(Update(bundles=BundleSet([CA.bundle]), revocations=revocations_of([listed]))) == set()
