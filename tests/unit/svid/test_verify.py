"""X509-SVID, section 5: which peers ``verify_peer`` accepts. Each refusal differs from a success in one thing."""

from datetime import datetime, timedelta, timezone

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import NoBundleError, UntrustedPeerError, ValidityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import MAX_CHAIN, VerifiedPeer
from tests.support.certs import AFTER, BEFORE, NOW, Issued, Key, ca, key, leaf
from tests.support.verifying import (
    EXHAUSTED,
    INTERMEDIATE,
    OTHER_KEY,
    ROOT,
    WEB,
    A,
    B,
    accepted,
    no_path,
    refusal,
    trusting,
    verify,
)

SECOND, TICK = timedelta(seconds=1), timedelta(microseconds=1)
LEAF = leaf(INTERMEDIATE, WEB)
OTHER_ROOT = ca(None, "spiffe://b.test", name="root b", slot="root b")
IMPOSTOR_ROOT = ca(None, "spiffe://a.test", name="root a", slot="impostor")


def chain_of(depth: int) -> list[Issued]:
    """A leaf below ``depth`` intermediates, without the root that they end in."""
    signers = [ROOT]
    for place in range(depth):
        signers.append(ca(signers[-1], name=f"ca {place}", slot=f"ca {place}"))
    return [leaf(signers[-1], WEB), *signers[:0:-1]]


def test_a_leaf_below_an_intermediate_of_the_bundle_s_root_is_verified() -> None:
    peer = verify([LEAF, INTERMEDIATE], trusting(ROOT))
    assert peer == VerifiedPeer(SpiffeId.parse(WEB), (LEAF.certificate, INTERMEDIATE.certificate))
    assert peer.leaf == LEAF.certificate
    assert (peer.serial, peer.not_after) == ("abc123", AFTER)
    assert peer.fingerprint == LEAF.certificate.fingerprint(hashes.SHA256())


@pytest.mark.parametrize(
    ("chain", "authorities"),
    [
        pytest.param([leaf(ROOT, WEB)], [ROOT], id="a leaf right below the root"),
        pytest.param([LEAF, INTERMEDIATE, ROOT], [ROOT], id="the root is presented too"),
        pytest.param([LEAF, INTERMEDIATE, INTERMEDIATE], [ROOT], id="the intermediate is presented twice"),
        pytest.param(
            [LEAF, INTERMEDIATE, OTHER_ROOT], [ROOT], id="a CA that has nothing to do with it is presented too"
        ),
        pytest.param([LEAF], [INTERMEDIATE], id="the authority is an intermediate"),
        pytest.param([LEAF, INTERMEDIATE], [INTERMEDIATE], id="the authority is an intermediate that is presented too"),
        pytest.param([LEAF, INTERMEDIATE], [IMPOSTOR_ROOT, ROOT], id="two authorities of one name and different keys"),
        pytest.param([LEAF, INTERMEDIATE], [ca(is_ca=False), ROOT], id="an authority that may not sign stands beside"),
        pytest.param(chain_of(MAX_CHAIN - 1), [ROOT], id="the longest chain"),
        pytest.param([*chain_of(MAX_CHAIN - 2), ROOT], [ROOT], id="the longest chain with its root"),
    ],
)
def test_paths_that_lead_to_an_authority_are_found(chain: list[Issued], authorities: list[Issued]) -> None:
    assert accepted(chain, trusting(*authorities))


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA"])
def test_every_usual_kind_of_key_is_verified_in_a_leaf_and_in_a_signer(kind: str) -> None:
    root = ca(None, slot="any", kind=kind)
    chain = [leaf(root, WEB, own_key=key("leaf", kind))]
    assert accepted(chain, trusting(root))
    other = ca(None, slot="another", kind=kind)
    assert refusal(UntrustedPeerError, chain, trusting(other)) == no_path("CN=root", OTHER_KEY)


def foreign_ca() -> Issued:
    made = trustme.CA(organization_name="foreign")
    private_key = load_pem_private_key(made.private_key_pem.bytes(), None)
    assert isinstance(private_key, Key)
    return Issued(x509.load_pem_x509_certificate(made.cert_pem.bytes()), private_key)


def test_a_foreign_ca_counts_only_where_it_is_in_the_bundle() -> None:
    foreign = foreign_ca()
    chain = [leaf(foreign, WEB)]
    assert accepted(chain, trusting(foreign))
    message = refusal(UntrustedPeerError, chain, trusting(ROOT))
    assert message == no_path(foreign.certificate.issuer.rfc4514_string(), EXHAUSTED)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        pytest.param([LEAF], no_path("CN=intermediate", EXHAUSTED), id="the intermediate is missing"),
        pytest.param(
            [leaf(OTHER_ROOT, WEB)], no_path("CN=root b", EXHAUSTED), id="a foreign root that is not presented"
        ),
        pytest.param(
            [leaf(OTHER_ROOT, WEB), OTHER_ROOT], no_path("CN=root b", EXHAUSTED), id="a foreign root that is presented"
        ),
        pytest.param(
            [leaf(IMPOSTOR_ROOT, WEB)],
            no_path("CN=root a", OTHER_KEY),
            id="a foreign root of the right name",
        ),
        pytest.param(
            [leaf(IMPOSTOR_ROOT, WEB), IMPOSTOR_ROOT],
            no_path("CN=root a", OTHER_KEY),
            id="a foreign root of the right name that is presented",
        ),
        pytest.param(
            [leaf(Issued(INTERMEDIATE.certificate, key("thief")), WEB), INTERMEDIATE],
            no_path("CN=root a", EXHAUSTED),
            id="signed by another key than the intermediate's, and says so",
        ),
    ],
)
def test_without_a_path_to_an_authority_a_peer_is_refused(chain: list[Issued], message: str) -> None:
    assert refusal(UntrustedPeerError, chain, trusting(ROOT)) == message


def test_a_trusted_domain_s_ca_cannot_mint_an_id_of_another_domain() -> None:
    both = BundleSet([TrustBundle(A, (ROOT.certificate,)), TrustBundle(B, (OTHER_ROOT.certificate,))])
    theirs = "spiffe://b.test/web"
    assert verify([leaf(OTHER_ROOT, theirs)], both).spiffe_id == SpiffeId.parse(theirs)
    assert accepted([leaf(ROOT, WEB)], both)
    assert refusal(UntrustedPeerError, [leaf(OTHER_ROOT, WEB)], both) == no_path("CN=root b", EXHAUSTED)
    assert refusal(UntrustedPeerError, [leaf(OTHER_ROOT, WEB), OTHER_ROOT], both) == no_path("CN=root b", EXHAUSTED)


def test_a_trusted_domain_s_intermediate_cannot_mint_an_id_of_another_domain() -> None:
    both = BundleSet([TrustBundle(A, (ROOT.certificate,)), TrustBundle(B, (OTHER_ROOT.certificate,))])
    claiming = ca(OTHER_ROOT, "spiffe://a.test", name="intermediate", slot="intermediate")
    assert verify([leaf(claiming, "spiffe://b.test/web"), claiming], both).spiffe_id.member_of(B)
    message = refusal(UntrustedPeerError, [leaf(claiming, WEB), claiming], both)
    assert message == no_path("CN=root b", EXHAUSTED)


def test_a_bundle_under_another_domain_s_name_does_not_count() -> None:
    assert verify([LEAF, INTERMEDIATE], trusting(ROOT)).spiffe_id.member_of(A)
    message = refusal(NoBundleError, [LEAF, INTERMEDIATE], trusting(ROOT, domain=B))
    assert message == f"peer {WEB}: no bundle for trust domain a.test; known: b.test"


def test_a_peer_of_an_unknown_trust_domain_is_refused() -> None:
    message = refusal(NoBundleError, [LEAF, INTERMEDIATE], BundleSet())
    assert message == f"peer {WEB}: no bundle for trust domain a.test; known: none"


def test_an_empty_bundle_trusts_nobody() -> None:
    message = refusal(NoBundleError, [LEAF, INTERMEDIATE], trusting())
    assert message == f"peer {WEB}: the bundle of trust domain a.test has no X.509 authority"


@pytest.mark.parametrize("now", [BEFORE, NOW, AFTER, NOW.astimezone(timezone(timedelta(hours=9)))])
def test_a_leaf_counts_from_its_first_moment_to_its_last_in_any_time_zone(now: datetime) -> None:
    assert accepted([LEAF, INTERMEDIATE], trusting(ROOT), now)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        pytest.param(
            AFTER + SECOND,
            "expired at 2030-05-01T13:00:00Z; our clock says 2030-05-01T13:00:01Z",
            id="expired",
        ),
        pytest.param(
            AFTER + TICK,
            "expired at 2030-05-01T13:00:00Z; our clock says 2030-05-01T13:00:00Z",
            id="expired by less than a second",
        ),
        pytest.param(
            (AFTER + SECOND).astimezone(timezone(timedelta(hours=9))),
            "expired at 2030-05-01T13:00:00Z; our clock says 2030-05-01T13:00:01Z",
            id="expired, seen from another time zone",
        ),
        pytest.param(
            BEFORE - SECOND,
            "is not valid before 2030-05-01T11:00:00Z; our clock says 2030-05-01T10:59:59Z",
            id="not yet valid",
        ),
    ],
)
def test_a_leaf_out_of_its_time_is_refused_with_both_clocks(now: datetime, message: str) -> None:
    refused = refusal(ValidityError, [LEAF, INTERMEDIATE], trusting(ROOT), now)
    assert refused == f"peer {WEB}: its certificate abc123 {message}"


def test_a_foreign_and_expired_leaf_is_refused_with_both_reasons() -> None:
    message = refusal(UntrustedPeerError, [leaf(OTHER_ROOT, WEB)], trusting(ROOT), AFTER + SECOND)
    times = "its certificate abc123 expired at 2030-05-01T13:00:00Z; our clock says 2030-05-01T13:00:01Z"
    assert message == no_path("CN=root b", f"{EXHAUSTED}; and {times}")


def test_a_leaf_that_ended_with_all_that_is_above_it_is_refused_for_its_time() -> None:
    assert accepted([LEAF, INTERMEDIATE], trusting(ROOT), AFTER)
    assert "expired at" in refusal(ValidityError, [LEAF, INTERMEDIATE], trusting(ROOT), AFTER + SECOND)
