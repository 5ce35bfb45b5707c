"""The proof that a node holds its certificate's key."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bench.hostile_chains import HostileChain, hostile_chains
from meshtls.errors import AccessError, InvalidSvidError
from meshtls.spiffeid import TrustDomain
from meshtls.svid import path as search
from meshtls.x509pop import Challenge, check_node_chain, check_proof, new_nonce, prove
from tests.support import certs
from tests.support.certs import NOW

TD = TrustDomain("example.org")
A, B = b"a" * 32, b"b" * 32
ROOT = certs.ca()


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_the_holder_of_the_key_proves_it(kind: str) -> None:
    node = certs.leaf(ROOT, own_key=certs.key("node", kind))
    challenge = Challenge(TD, b"csr", A, B)
    check_proof(node.certificate, challenge, prove(node.private_key, challenge))


@pytest.mark.parametrize(
    "other",
    [
        Challenge(TrustDomain("b.test"), b"csr", A, B),
        Challenge(TD, b"another csr", A, B),
        Challenge(TD, b"csr", B, B),
        Challenge(TD, b"csr", A, A),
    ],
    ids=["trust domain", "csr", "server nonce", "node nonce"],
)
@pytest.mark.parametrize("kind", ["P-256", "RSA"])
def test_a_proof_of_another_attestation_is_refused(other: Challenge, kind: str) -> None:
    node = certs.leaf(ROOT, own_key=certs.key("node", kind))
    with pytest.raises(AccessError) as refused:
        check_proof(node.certificate, Challenge(TD, b"csr", A, B), prove(node.private_key, other))
    assert str(refused.value) == "x509pop: the answer was not signed with the key of the node's certificate"


def test_a_proof_by_another_key_is_refused() -> None:
    challenge = Challenge(TD, b"csr", A, B)
    answer = prove(ec.generate_private_key(ec.SECP256R1()), challenge)
    with pytest.raises(AccessError, match="was not signed with the key"):
        check_proof(certs.leaf(ROOT).certificate, challenge, answer)


def test_nonces_are_long_and_unique() -> None:
    assert len({new_nonce() for _ in range(100)}) == 100
    with pytest.raises(AccessError, match=r"^x509pop: wanted nonces of 32 bytes$"):
        Challenge(TD, b"csr", A, b"short")


def test_a_chain_to_a_configured_ca_is_taken() -> None:
    middle = certs.ca(ROOT, slot="middle", name="middle")
    node = certs.leaf(middle)
    check_node_chain([node.der, middle.der], (ROOT.certificate,), NOW)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (certs.leaf(certs.ca(slot="foreign")), "x509pop: no path from the node's certificate CN=web to a CA"),
        (
            certs.leaf(ROOT, not_after=NOW - timedelta(minutes=1)),
            "x509pop: the node's certificate is valid from 2030-05-01T11:00:00Z to 2030-05-01T11:59:00Z; our",
        ),
        (certs.leaf(ROOT, usages=("key_agreement",)), "x509pop: the node's certificate may not sign"),
        (certs.ca(ROOT, slot="middle", name="middle"), "x509pop: wanted a node's certificate, got a CA's"),
    ],
    ids=["foreign CA", "expired", "may not sign", "a CA"],
)
def test_any_other_chain_is_refused(node: certs.Issued, message: str) -> None:
    check_node_chain([certs.leaf(ROOT).der], (ROOT.certificate,), NOW)
    with pytest.raises(AccessError) as refused:
        check_node_chain([node.der], (ROOT.certificate,), NOW)
    assert str(refused.value).startswith(message)


def test_unrelated_certificates_are_not_in_the_path() -> None:
    middle, other = certs.ca(ROOT, slot="middle", name="middle"), certs.ca(slot="other", name="other")
    node = certs.leaf(middle)
    path = check_node_chain([node.der, other.der, middle.der], (ROOT.certificate,), NOW)
    assert path == (node.certificate, middle.certificate, ROOT.certificate)


HOSTILE = [
    one
    for one in hostile_chains("spiffe://example.org/node", [ROOT.certificate])
    if not one.name.startswith("a captured")
]


@pytest.mark.parametrize("chain", HOSTILE, ids=[one.name for one in HOSTILE])
def test_a_chain_that_is_made_to_cost_much_is_refused_without_its_keys(
    chain: HostileChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuers = []
    really = search.signature_holds

    def noted(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        issuers.append(issuer)
        return really(certificate, issuer)

    monkeypatch.setattr(search, "signature_holds", noted)
    with pytest.raises((AccessError, InvalidSvidError)):
        check_node_chain(chain.certificates, (ROOT.certificate,), NOW)
    assert set(issuers) <= {ROOT.certificate}
    assert len(issuers) <= search.MAX_BAD_SIGNATURES
