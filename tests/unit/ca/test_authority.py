"""The authority: issuance, its record, and the renewal of its intermediate."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.ca.keys.manager import KeyAlgorithm, Slot
from meshtls.ca.keys.memory import MemoryKeys
from meshtls.ca.profile import Signer
from meshtls.ca.records import IssuanceLog, IssuanceRecord
from meshtls.errors import ConfigError, RequestError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.leaf_rules import uri_names
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import format_serial
from tests.support.authority import csr_for, make_authority, svid_for
from tests.support.clock import ManualClock

DOMAIN = TrustDomain("example.org")
WEB = SpiffeId(DOMAIN, "/web")
KEY = ec.generate_private_key(ec.SECP256R1())
DAY = 86400.0


def accepted(authority: Authority, clock: ManualClock) -> SpiffeId:
    """Issue, and verify the chain as a peer with the authority's bundle."""
    chain = authority.issue(WEB, KEY.public_key())
    ders = [certificate.public_bytes(Encoding.DER) for certificate in chain]
    return verify_peer(ders, BundleSet([authority.bundle]), clock.now()).spiffe_id


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.P256, KeyAlgorithm.P384, KeyAlgorithm.RSA2048])
def test_a_peer_with_the_bundle_accepts_what_it_issues(algorithm: KeyAlgorithm) -> None:
    clock = ManualClock()
    authority = Authority.create(DOMAIN, clock, keys=MemoryKeys(algorithm))
    assert accepted(authority, clock) == WEB


def test_a_leaf_lives_one_hour_unless_asked_otherwise() -> None:
    clock = ManualClock()
    authority = make_authority(clock=clock)
    assert svid_for(authority, WEB).not_after - clock.now() == timedelta(hours=1)
    assert svid_for(authority, WEB, ttl=timedelta(minutes=5)).not_after - clock.now() == timedelta(minutes=5)
    assert svid_for(authority, WEB, ttl=timedelta(days=90)).not_after - clock.now() == timedelta(days=30)


def test_the_name_that_a_csr_asks_for_is_ignored() -> None:
    csr = csr_for(KEY, uri="spiffe://example.org/admin").public_bytes(Encoding.PEM)
    leaf, _ = make_authority().issue(WEB, csr)
    assert uri_names(leaf) == ["spiffe://example.org/web"]
    assert leaf.public_key() == KEY.public_key()


@pytest.mark.parametrize(
    ("spiffe_id", "message"),
    [
        ("spiffe://other.org/web", "spiffe://other.org/web: this CA issues for trust domain example.org only"),
        (
            "spiffe://example.org",
            "spiffe://example.org: wanted an ID with a path; the trust domain's own ID is no workload's",
        ),
    ],
)
def test_an_id_outside_this_domains_workloads_is_refused(spiffe_id: str, message: str) -> None:
    log = IssuanceLog()
    authority = Authority.create(DOMAIN, ManualClock(), recorder=log)
    with pytest.raises(RequestError) as raised:
        authority.issue(SpiffeId.parse(spiffe_id), KEY.public_key())
    assert str(raised.value) == message
    assert log.records == ()


def test_a_key_that_is_too_weak_is_refused_outside_a_csr_too() -> None:
    with pytest.raises(RequestError, match="got EC secp521r1"):
        make_authority().issue(WEB, ec.generate_private_key(ec.SECP521R1()).public_key())


def test_every_issuance_is_recorded_and_expired_ones_go() -> None:
    clock, log = ManualClock(), IssuanceLog()
    authority = Authority.create(DOMAIN, clock, recorder=log)
    first, second = (authority.issue(WEB, KEY.public_key())[0] for _ in range(2))
    assert list(log.records) == [IssuanceRecord.of(WEB, first), IssuanceRecord.of(WEB, second)]
    record = log.records[0]
    assert (record.serial, record.spiffe_id) == (format_serial(first), WEB)
    assert (record.not_before, record.not_after) == (first.not_valid_before_utc, first.not_valid_after_utc)
    clock.advance(3700)
    third, _ = authority.issue(WEB, KEY.public_key())
    assert list(log.records) == [IssuanceRecord.of(WEB, third)]


def test_an_svid_that_cannot_be_recorded_is_not_given_out() -> None:
    class FullDisk:
        def record(self, record: IssuanceRecord) -> None:
            raise ConfigError("the database is full")

    authority = Authority.create(DOMAIN, ManualClock(), recorder=FullDisk())
    with pytest.raises(ConfigError, match="the database is full"):
        authority.issue(WEB, KEY.public_key())


def test_the_intermediate_is_renewed_with_a_new_key_past_half_its_life() -> None:
    clock = ManualClock()
    authority = make_authority(clock=clock)
    first = authority.intermediate
    clock.advance(14.9 * DAY)
    assert accepted(authority, clock) == WEB
    assert authority.intermediate is first
    clock.advance(0.2 * DAY)
    assert accepted(authority, clock) == WEB
    assert authority.intermediate.certificate.public_key() != first.certificate.public_key()
    assert authority.intermediate.certificate.not_valid_after_utc == clock.now() + timedelta(days=30)


def test_an_intermediate_from_a_clock_that_was_ahead_is_replaced_once_the_clock_is_right() -> None:
    clock = ManualClock()
    authority = make_authority(clock=clock)
    first = authority.intermediate
    assert accepted(authority, clock) == WEB
    clock.set_back(-20 * DAY)
    assert accepted(authority, clock) == WEB
    ahead = authority.intermediate
    clock.set_back(20 * DAY)
    assert accepted(authority, clock) == WEB
    assert authority.intermediate not in (first, ahead)
    assert authority.crl_signers == (authority.intermediate, first)


@pytest.mark.parametrize("life", [4, 10, 40])
def test_the_backdating_of_an_intermediate_that_lives_for_seconds_counts_as_no_life(life: int) -> None:
    clock = ManualClock()
    half = timedelta(seconds=life / 2)
    authority = make_authority(clock=clock, svid_ttl=half, intermediate_ttl=2 * half)
    first = authority.intermediate
    authority.issue(WEB, KEY.public_key())
    clock.advance(half.total_seconds())
    authority.issue(WEB, KEY.public_key())
    assert authority.intermediate is first
    clock.advance(0.1)
    authority.issue(WEB, KEY.public_key())
    assert authority.intermediate is not first


def test_a_mesh_that_runs_for_years_never_runs_out_of_intermediates() -> None:
    clock = ManualClock()
    authority = make_authority(clock=clock)
    bundle = authority.bundle
    for _ in range(60):
        clock.advance(60 * DAY)
        assert accepted(authority, clock) == WEB
    assert authority.bundle == bundle


def test_an_intermediate_that_ends_with_the_root_is_not_renewed_in_vain() -> None:
    clock = ManualClock()
    authority = make_authority(clock=clock, ca_ttl=timedelta(days=10))
    first = authority.intermediate
    clock.advance(9.9 * DAY)
    assert accepted(authority, clock) == WEB
    assert authority.intermediate is first


def test_the_intermediate_is_made_for_leaves_that_live_long() -> None:
    clock, life = ManualClock(), timedelta(hours=400)
    authority = Authority.create(DOMAIN, clock, svid_ttl=life)
    for _ in range(30):
        assert svid_for(authority, WEB).not_after - clock.now() == life
        clock.advance(2 * DAY)


def test_an_intermediate_that_was_kept_for_short_leaves_is_renewed_before_it_cuts_long_ones_short() -> None:
    clock, keys, life = ManualClock(), MemoryKeys(), timedelta(hours=400)
    first = Authority.create(DOMAIN, clock, keys=keys).intermediate
    authority = Authority.create(DOMAIN, clock, keys=keys, svid_ttl=life)
    assert authority.intermediate.certificate == first.certificate
    clock.advance(14.9 * DAY)
    assert svid_for(authority, WEB).not_after - clock.now() == life
    assert authority.intermediate.certificate != first.certificate


def test_an_expired_root_issues_nothing() -> None:
    clock = ManualClock()
    authority = make_authority(clock=clock, ca_ttl=timedelta(days=10))
    clock.advance(10 * DAY)
    with pytest.raises(ConfigError, match=r"^CA certificate \w+ expired at .* start a new CA"):
        authority.issue(WEB, KEY.public_key())


class FailingKeys(MemoryKeys):
    """A key store that can't be written once ``full`` is set."""

    full = False

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        if self.full:
            raise ConfigError("root.pem: could not be written: No space left on device")
        super().save(signers)


def test_the_present_intermediate_stays_when_a_new_one_cannot_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    clock, keys = ManualClock(), FailingKeys()
    authority = Authority.create(DOMAIN, clock, keys=keys)
    first = authority.intermediate
    keys.full = True
    clock.advance(20 * DAY)
    with caplog.at_level(logging.WARNING, "meshtls.ca"):
        assert accepted(authority, clock) == WEB
    assert caplog.messages == [
        "the intermediate CA of example.org could not be renewed:"
        " root.pem: could not be written: No space left on device"
    ]
    assert authority.intermediate is first
    keys.full = False
    assert accepted(authority, clock) == WEB
    assert authority.intermediate is not first


@pytest.mark.parametrize(
    ("ttls", "message"),
    [
        (
            (timedelta(0), timedelta(days=30), timedelta(days=3650)),
            "TTLs of 0:00:00 (SVID) and 3650 days, 0:00:00 (root): wanted at least one second",
        ),
        (
            (timedelta(hours=1), timedelta(days=30), timedelta(0)),
            "TTLs of 1:00:00 (SVID) and 0:00:00 (root): wanted at least one second",
        ),
        (
            (timedelta(hours=25), timedelta(hours=50), timedelta(hours=49)),
            "SVID TTL of 1 day, 1:00:00: wanted at most 1 day, 0:30:00, half of the root's life",
        ),
        (
            (timedelta(hours=1), timedelta(minutes=119), timedelta(days=3650)),
            "intermediate TTL of 1:59:00: wanted at least twice the SVID's 1:00:00,"
            " so that it is renewed before it cuts a leaf short",
        ),
    ],
)
def test_impossible_lifetimes_are_refused(ttls: tuple[timedelta, timedelta, timedelta], message: str) -> None:
    svid, intermediate, root = ttls
    with pytest.raises(ConfigError) as raised:
        make_authority(svid_ttl=svid, intermediate_ttl=intermediate, ca_ttl=root)
    assert str(raised.value) == message


def test_the_shortest_intermediate_that_is_allowed_never_cuts_a_leaf_short() -> None:
    clock = ManualClock()
    authority = make_authority(clock=clock, intermediate_ttl=timedelta(hours=2))
    for _ in range(20):
        clock.advance(700)
        assert svid_for(authority, WEB).not_after == clock.now() + timedelta(hours=1)


def test_the_repr_names_domain_and_root() -> None:
    authority = make_authority(clock=ManualClock())
    serial = format_serial(authority.bundle.x509_authorities[0])
    assert repr(authority).startswith(f"<Authority example.org root {serial} until ")
