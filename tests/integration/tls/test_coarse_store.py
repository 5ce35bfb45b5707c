"""What OpenSSL's own store learns from accepted peers, and that it lets nobody in whom ``verify_peer`` would not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.errors import UntrustedPeerError
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid
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


def known(server: GenerationContext) -> int:
    return int(server.cert_store_stats()["x509"])


def test_the_intermediate_of_an_accepted_peer_is_learnt_once(server: GenerationContext) -> None:
    assert known(server) == 2
    for _ in range(3):
        assert meet(server, context_for(OURS, CLIENT)) == Ends()
    assert known(server) == 3
    assert meet(server, context_for(OURS, "/another")) == Ends()
    assert known(server) == 3


def test_the_intermediate_of_a_refused_peer_is_not_learnt(server: GenerationContext) -> None:
    stranger = make_authority("example.org")
    theirs = X509Context(1, (svid_for(stranger, CLIENT),), BundleSet([OURS.bundle]))
    assert type(meet(server, theirs).server) is UntrustedPeerError
    assert known(server) == 2


def test_an_intermediate_that_did_not_sign_the_leaf_is_not_learnt(server: GenerationContext) -> None:
    """The leaf is signed by the root itself, and an intermediate that has no part in that comes with it."""
    good = svid_for(OURS, CLIENT)
    direct = mint_raw(OURS, Leaf(uris=(CLIENT,), signer=OURS._root))
    beside = X509Svid(direct.spiffe_id, (direct.chain[0], good.chain[1]), direct.private_key)
    assert meet(server, X509Context(1, (beside,), BundleSet([OURS.bundle]))) == Ends()
    assert known(server) == 2


def test_a_partner_s_learnt_intermediate_mints_no_id_of_ours(server: GenerationContext) -> None:
    theirs = X509Context(1, (svid_for(PARTNER, "/app"),), BundleSet([OURS.bundle]))
    assert meet(server, theirs) == Ends()
    assert known(server) == 3
    posing = X509Context(1, (mint_raw(PARTNER, Leaf(uris=(CLIENT,))),), BundleSet([OURS.bundle]))
    ends = meet(server, posing)
    assert type(ends.server) is UntrustedPeerError
    assert "no path to a root of the bundle of trust domain example.org" in str(ends.server)
    assert str(ends.client) == "the peer refused the connection with the alert 'unknown ca'"


def test_what_is_learnt_is_of_one_generation(server: GenerationContext) -> None:
    assert meet(server, context_for(OURS, CLIENT)) == Ends()
    newer = context_of(server.snapshot, server_side=True)
    assert (known(server), known(newer)) == (3, 2)
    assert OURS.intermediate.certificate.public_bytes(Encoding.DER) in server.get_ca_certs(binary_form=True)
