"""The CRLs of the Workload API's messages become a part of the Trust, or are left out with a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from meshtls.clock import SystemClock
from meshtls.errors import RevocationUnknownError, RevokedError
from meshtls.proto import workload_pb as pb
from meshtls.revocation.building import CrlEntry, build_crl
from meshtls.revocation.crl import MAX_CRL_BYTES, MAX_CRLS
from meshtls.svid.context import X509Context
from meshtls.svid.trust import NO_REVOCATIONS, Trust
from meshtls.svid.verify import verify_peer
from meshtls.workload import convert
from meshtls.workload.convert import x509_context, x509_context_message, x509_trust, x509_trust_message
from tests.support.authority import LASTING, context_for, make_authority, svid_for
from tests.support.certs import Issued
from tests.support.crls import crl

OURS, PARTNER = make_authority(), make_authority("partner.test")
CONTEXT = context_for(OURS, "/web", ttl=LASTING, federated=[PARTNER.bundle])
PEER, GUEST = svid_for(OURS, "/peer", ttl=LASTING), svid_for(PARTNER, "/guest", ttl=LASTING)
CLOCK = SystemClock()
SIGNER = Issued(OURS.intermediate.certificate, OURS.intermediate.private_key)


def listing(*serials: int, of: Issued = SIGNER) -> bytes:
    now = CLOCK.now()
    entries = [CrlEntry(serial, now) for serial in serials]
    until = now + timedelta(hours=1)
    return build_crl(of.certificate, of.private_key, entries, number=1, now=now, next_update=until)


def received(*crls: bytes) -> tuple[X509Context, Trust, tuple[str, ...]]:
    """What is read of both messages, which must agree."""
    message = x509_context_message(CONTEXT)
    message.crl.extend(crls)
    context = x509_context(pb.X509SVIDResponse.FromString(message.SerializeToString()), 1)
    bundles = pb.X509BundlesResponse(bundles={str(one.trust_domain.id): one.to_der() for one in CONTEXT.bundles})
    bundles.crl.extend(crls)
    trust, unusable = x509_trust(pb.X509BundlesResponse.FromString(bundles.SerializeToString()), 3)
    assert (trust.generation, trust.revocations, unusable) == (3, context.revocations, context.unusable)
    return context, trust, unusable


def accepted(trust: Trust, *ders: Sequence[bytes]) -> list[str]:
    return [verify_peer(chain, trust, CLOCK.now()).spiffe_id.path for chain in ders]


CHAINS = [[one.public_bytes(Encoding.DER) for one in svid.chain] for svid in (PEER, GUEST)]


def test_a_message_without_crls_revokes_nothing() -> None:
    context, trust, unusable = received()
    assert context.revocations is NO_REVOCATIONS
    assert unusable == ()
    assert accepted(trust, *CHAINS) == ["/peer", "/guest"]


def test_a_crl_revokes_a_peer_of_its_issuer_and_no_other() -> None:
    _, trust, unusable = received(listing(PEER.leaf.serial_number, GUEST.leaf.serial_number))
    assert unusable == ()
    assert accepted(trust, CHAINS[1]) == ["/guest"]
    with pytest.raises(RevokedError) as caught:
        accepted(trust, CHAINS[0])
    assert str(caught.value) == f"peer {PEER.spiffe_id}: certificate {PEER.serial} was revoked by its issuer"
    _, trust, _ = received(listing(GUEST.leaf.serial_number))
    assert accepted(trust, *CHAINS) == ["/peer", "/guest"]


def test_crls_survive_the_wire() -> None:
    context, trust, _ = received(listing(7), listing(8))
    assert x509_context(x509_context_message(context), 1) == context
    assert x509_trust(x509_trust_message(trust), 3) == (trust, ())
    other = replace(context, revocations=received(listing(9))[0].revocations)
    assert other != context


def test_a_crl_that_can_t_be_read_is_left_out_with_a_word_and_the_others_count() -> None:
    _, trust, unusable = received(b"junk", listing(PEER.leaf.serial_number))
    assert len(unusable) == 1
    assert unusable[0].startswith("CRL of the Workload API: wanted a CRL in DER: ")
    assert unusable[0].endswith("; it is left out")
    with pytest.raises(RevokedError):
        accepted(trust, CHAINS[0])
    assert len(received(*[b"junk"] * 50)[2]) == 9


def test_a_crl_of_a_kind_that_is_not_used_makes_its_issuer_s_peers_unknown() -> None:
    now = CLOCK.now()
    delta = crl(
        SIGNER,
        this_update=now - timedelta(minutes=1),
        next_update=now + timedelta(hours=1),
        extra=[(x509.DeltaCRLIndicator(1), True)],
    )
    _, trust, [told] = received(delta)
    issuer = SIGNER.certificate.subject.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"})
    assert told == f"CRL of the Workload API, of issuer {issuer}: wanted a complete CRL, got a delta CRL"
    assert accepted(trust, CHAINS[1]) == ["/guest"]
    with pytest.raises(RevocationUnknownError):
        accepted(trust, CHAINS[0])
    assert accepted(received(delta, listing())[1], *CHAINS) == ["/peer", "/guest"]


def test_more_crls_than_are_taken_make_every_issuer_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    most = [listing(), *(listing(n) for n in range(1, MAX_CRLS))]
    assert accepted(received(*most)[1], *CHAINS) == ["/peer", "/guest"]
    context, trust, unusable = received(*most, listing(MAX_CRLS))
    why = f"the Workload API sent more than {MAX_CRLS} CRLs, or more than {2 * MAX_CRL_BYTES} bytes of them"
    assert unusable == (f"{why}; the others are left out",)
    assert len(context.revocations.lists.to_der() if context.revocations.lists else ()) == MAX_CRLS
    with pytest.raises(RevocationUnknownError, match=f"there is no CRL of its issuer, and {why}$"):
        accepted(trust, CHAINS[1])
    monkeypatch.setattr(convert, "MAX_CRL_TOTAL", len(most[0]))
    assert received(most[0])[2] == ()
    assert received(most[0], most[1])[2] == (
        f"the Workload API sent more than {MAX_CRLS} CRLs, or more than {len(most[0])} bytes of them;"
        " the others are left out",
    )
