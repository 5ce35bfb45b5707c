"""The node's state: which SVID is presented when, and what an attempt takes with it."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.errors import RequestError
from meshtls.node.mesh import Mesh
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import spiffe_id_of
from tests.support.authority import csr_for, make_authority, svid_for
from tests.support.clock import ManualClock

A, B = "spiffe://example.com/service-a", "spiffe://example.com/service-b"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def mesh(clock: ManualClock) -> Mesh:
    return Mesh(TrustDomain("example.com"), clock)


def test_an_svid_is_minted_on_first_use_and_then_used_again(mesh: Mesh) -> None:
    service = mesh.id_of("service-a", None, None)

    first = mesh.identity(service)

    assert str(first.svid.spiffe_id) == A
    assert mesh.identity(service) is first


def test_an_svid_is_replaced_when_half_of_its_life_is_over(mesh: Mesh, clock: ManualClock) -> None:
    service = mesh.id_of("service-a", None, None)
    first = mesh.mint(service, 60)

    clock.advance(29)
    assert mesh.identity(service) is first
    clock.advance(1)
    second = mesh.identity(service)

    assert second.svid.serial != first.svid.serial
    assert second.generation == first.generation + 1


def test_rotate_replaces_the_last_presented_svid_at_any_age(mesh: Mesh, clock: ManualClock) -> None:
    service = mesh.id_of("service-a", None, None)
    presented = mesh.mint(service, 60)
    clock.advance(45)

    old, new = mesh.rotate(service)

    assert old == presented.svid
    assert mesh.identity(service).svid == new
    assert mesh.identity(service).generation == presented.generation + 1


def test_a_service_that_was_never_used_is_rotated_from_its_first_svid(mesh: Mesh) -> None:
    old, new = mesh.rotate(mesh.id_of("service-a", None, None))

    assert old.serial != new.serial


def test_a_csr_gets_a_certificate_for_its_key_and_the_service_keeps_its_own(mesh: Mesh) -> None:
    service = mesh.id_of("service-a", None, None)
    before, key = mesh.identity(service), ec.generate_private_key(ec.SECP256R1())
    pem = csr_for(key, uri="spiffe://example.com/admin").public_bytes(Encoding.PEM).decode()

    leaf = mesh.certify(service, pem, None)[0]

    assert leaf.public_key() == key.public_key()
    assert str(spiffe_id_of(leaf)) == A
    assert mesh.identity(service) is before


def test_a_malformed_csr_is_refused(mesh: Mesh) -> None:
    with pytest.raises(RequestError, match=r"CSR: wanted a PKCS#10 request in PEM or DER"):
        mesh.certify(mesh.id_of("service-a", None, None), "nonsense", None)


def test_the_longest_ttl_is_the_issuers(mesh: Mesh, clock: ManualClock) -> None:
    svid = mesh.mint(mesh.id_of("service-a", None, None), 1e300).svid

    assert timedelta(days=29) < svid.not_after - clock.now() <= timedelta(days=30)


def test_the_node_presents_a_certificate_whose_key_it_holds(mesh: Mesh) -> None:
    a, b = (mesh.id_of(name, None, None) for name in ("service-a", "service-b"))
    issued = mesh.mint(a).svid

    attempt = mesh.attempt(a, b, issued.chain_pem().decode())

    assert attempt.client.svid == issued
    assert attempt.allow == (a,)


def test_another_services_certificate_is_refused_by_a_server_that_allows_only_the_claimed_one(mesh: Mesh) -> None:
    a, b, c = (mesh.id_of(name, None, None) for name in ("service-a", "service-b", "service-c"))
    mesh.set_policy(b, [a, c])

    attempt = mesh.attempt(a, b, mesh.identity(c).svid.chain_pem().decode())

    assert attempt.client.svid.spiffe_id == c
    assert attempt.allow == (a,)


def test_a_foreign_certificate_is_presented_as_a_copy_with_the_same_fields(mesh: Mesh) -> None:
    a, b = (mesh.id_of(name, None, None) for name in ("service-a", "service-b"))
    foreign = svid_for(make_authority("example.com"), a)

    copy = mesh.attempt(a, b, foreign.chain_pem().decode()).client.svid.leaf

    assert copy.public_key() != foreign.leaf.public_key()
    assert (copy.serial_number, copy.subject, copy.issuer, list(copy.extensions)) == (
        foreign.leaf.serial_number,
        foreign.leaf.subject,
        foreign.leaf.issuer,
        list(foreign.leaf.extensions),
    )


def test_a_retry_keeps_its_original_decision(mesh: Mesh) -> None:
    a, b = (mesh.id_of(name, None, None) for name in ("service-a", "service-b"))
    before = mesh.attempt(a, b, None)

    mesh.mint(a)
    mesh.set_policy(b, [])

    assert before.allow == (a,)
    assert before.client.svid.serial != mesh.attempt(a, b, None).client.svid.serial
    assert mesh.attempt(a, b, None).allow == ()


def test_each_trust_domain_has_a_ca_of_its_own(mesh: Mesh) -> None:
    one, other = mesh.id_of("a", None, None), mesh.id_of("a", None, "other.test")

    roots = [next(iter(mesh.identity(spiffe_id).bundles)).x509_authorities for spiffe_id in (one, other)]

    assert roots[0] != roots[1]
    assert isinstance(roots[1][0], x509.Certificate)
