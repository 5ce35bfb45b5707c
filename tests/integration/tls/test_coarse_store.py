"""The content of OpenSSL's own store beside the roots, and that it admits no peer that ``verify_peer`` refuses."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.errors import NoBundleError, UntrustedPeerError
from meshtls.svid.context import X509Context
from meshtls.tls.context import GenerationContext
from meshtls.tls.engine import TlsEngine
from tests.support.authority import Leaf, context_for, make_authority, mint_raw, svid_for
from tests.support.tls import Ends, context_of, shake

OURS, PARTNER = make_authority("example.org"), make_authority("partner.test")
CLIENT, SERVER = "spiffe://example.org/client", "spiffe://example.org/server"


@pytest.fixture
def server() -> GenerationContext:
    return context_of(context_for(OURS, SERVER, federated=[PARTNER.bundle]), server_side=True)


def meet(server: GenerationContext, client: X509Context) -> Ends:
    return shake(TlsEngine(context_of(client, server_side=False)), TlsEngine(server))


def stored(server: GenerationContext) -> set[bytes]:
    return set(server.get_ca_certs(binary_form=True))


def der(*certificates: x509.Certificate) -> set[bytes]:
    return {certificate.public_bytes(Encoding.DER) for certificate in certificates}


ROOTS = der(*OURS.bundle.x509_authorities, *PARTNER.bundle.x509_authorities)


def test_the_store_holds_the_roots_and_the_intermediate_of_our_own_svid(server: GenerationContext) -> None:
    assert stored(server) == ROOTS | der(OURS.intermediate.certificate)


def test_an_intermediate_without_a_path_to_a_trusted_root_is_left_out_of_the_store() -> None:
    stranger = make_authority("example.org")
    lost = context_of(X509Context(1, (svid_for(stranger, SERVER),), BundleSet([OURS.bundle])), server_side=True)
    assert stored(lost) == der(*OURS.bundle.x509_authorities)


def test_a_peers_handshake_does_not_change_the_store(server: GenerationContext) -> None:
    before = stored(server)
    for client in (context_for(OURS, CLIENT), X509Context(1, (svid_for(PARTNER, "/app"),), BundleSet([OURS.bundle]))):
        assert meet(server, client) == Ends()
    assert stored(server) == before


def test_the_intermediate_does_not_stand_for_its_root(server: GenerationContext) -> None:
    """OpenSSL lets this server through by the intermediate; the bundle of its trust domain has lost the root."""
    trusting_partner_only = X509Context(1, (svid_for(OURS, SERVER),), BundleSet([PARTNER.bundle]))
    held = context_of(trusting_partner_only, server_side=True)
    held.load_verify_locations(cadata=b"".join(der(OURS.intermediate.certificate)))
    ends = meet(held, context_for(OURS, CLIENT))
    assert type(ends.server) is NoBundleError
    assert str(ends.client) == "the peer refused the connection with the alert 'unknown ca'"


def test_a_partners_intermediate_in_the_bundle_mints_no_id_of_ours(server: GenerationContext) -> None:
    server.load_verify_locations(cadata=b"".join(der(PARTNER.intermediate.certificate)))
    theirs = X509Context(1, (svid_for(PARTNER, "/app"),), BundleSet([OURS.bundle]))
    assert meet(server, theirs) == Ends()
    posing = X509Context(1, (mint_raw(PARTNER, Leaf(uris=(CLIENT,))),), BundleSet([OURS.bundle]))
    ends = meet(server, posing)
    assert type(ends.server) is UntrustedPeerError
    assert "no path to a root of the bundle of trust domain example.org" in str(ends.server)
    assert str(ends.client) == "the peer refused the connection with the alert 'unknown ca'"
