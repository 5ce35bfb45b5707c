"""X509-SVID, section 3.2, and RFC 5280, section 6: every CA of a path has to be one, in its time and in its depth.

The same mutations are put in each place of the path: presented by the peer, and held by the bundle as a root or not.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from meshtls.errors import InvalidSvidError, UntrustedPeerError
from tests.support.certs import NOW, Issued, ca, leaf
from tests.support.verifying import ROOT, WEB, accepted, no_path, refusal, trusting

Make = Callable[[Issued | None], Issued]
UNKNOWN_CRITICAL = (x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00"), True)


def made(*uris: str, **change: object) -> Make:
    return lambda issuer: ca(issuer, *uris, slot="i", name="i", **change)  # type: ignore[arg-type]  # keywords of ca()


GOOD = made()
SIGNER = "CA certificate abc123"
NOT_CA = "wanted a CA certificate as a signer"
MAY_NOT = "wanted keyCertSign in a signer's keyUsage"
WITH_PATH = "wanted no path in a signer's SPIFFE ID, got spiffe://a.test/ca"
BAD_SIGNERS = [
    pytest.param(made(is_ca=False), NOT_CA, id="cA false"),
    pytest.param(made(is_ca=None), NOT_CA, id="no basicConstraints"),
    pytest.param(made(usages=["crl_sign"]), MAY_NOT, id="no keyCertSign"),
    pytest.param(made(usages=None), MAY_NOT, id="no keyUsage"),
    pytest.param(made("spiffe://a.test/ca"), WITH_PATH, id="an ID with a path"),
]
UNTIMELY = [
    pytest.param(
        made(not_after=NOW - timedelta(seconds=1)),
        "expired at 2030-05-01T11:59:59Z; our clock says 2030-05-01T12:00:00Z",
        id="expired",
    ),
    pytest.param(
        made(not_before=NOW + timedelta(seconds=1)),
        "is not valid before 2030-05-01T12:00:01Z; our clock says 2030-05-01T12:00:00Z",
        id="not yet valid",
    ),
]


def presented(make: Make) -> list[Issued]:
    signer = make(ROOT)
    return [leaf(signer, WEB), signer]


def test_a_good_signer_is_accepted_in_every_position() -> None:
    assert accepted(presented(GOOD), trusting(ROOT))
    assert accepted([leaf(GOOD(None), WEB)], trusting(GOOD(None)))
    assert accepted([leaf(GOOD(ROOT), WEB)], trusting(GOOD(ROOT)))


@pytest.mark.parametrize(("make", "broken"), BAD_SIGNERS)
def test_an_intermediate_that_may_not_sign_is_refused(make: Make, broken: str) -> None:
    message = refusal(UntrustedPeerError, presented(make), trusting(ROOT))
    assert message == no_path("CN=root a", f"CA certificate abc123 may not sign: {broken}")


@pytest.mark.parametrize("issuer", [None, ROOT], ids=["a root", "an intermediate"])
@pytest.mark.parametrize(("make", "broken"), BAD_SIGNERS)
def test_an_authority_of_the_bundle_that_may_not_sign_is_refused(
    issuer: Issued | None, make: Make, broken: str
) -> None:
    signer = make(issuer)
    message = refusal(UntrustedPeerError, [leaf(signer, WEB)], trusting(signer))
    assert message == f"peer {WEB}: no authority in the bundle of trust domain a.test may sign: {broken}"


def test_a_leaf_in_the_bundle_does_not_vouch_for_itself() -> None:
    web = leaf(ROOT, WEB)
    assert accepted([web], trusting(web, ROOT))
    message = refusal(UntrustedPeerError, [web], trusting(web, ca(slot="other", name="other")))
    assert message == no_path("CN=root a", "none of them is its issuer", 2)


def test_a_leaf_presented_as_an_intermediate_is_refused() -> None:
    web = leaf(ROOT, "spiffe://a.test/evil")
    message = refusal(UntrustedPeerError, [leaf(web, WEB), web], trusting(ROOT))
    broken = f"{NOT_CA}; {MAY_NOT}; wanted no path in a signer's SPIFFE ID, got spiffe://a.test/evil"
    assert message == no_path("CN=root a", f"CA certificate abc123 may not sign: {broken}")


def test_a_ca_cannot_authenticate_as_a_workload() -> None:
    peer = ca(ROOT, WEB, slot="i", name="i")
    broken = [
        "a CA certificate can't authenticate a workload",
        "wanted digitalSignature in keyUsage",
    ]
    message = refusal(InvalidSvidError, [peer], trusting(ROOT))
    assert message == f"peer's certificate abc123 is no X509-SVID: {'; '.join(broken)}"


@pytest.mark.parametrize(("make", "when"), UNTIMELY)
def test_an_intermediate_out_of_its_time_is_refused(make: Make, when: str) -> None:
    assert refusal(UntrustedPeerError, presented(make), trusting(ROOT)) == no_path("CN=root a", f"{SIGNER} {when}")


def test_an_intermediate_is_judged_by_the_clock_that_judges_the_leaf() -> None:
    chain, expiry = presented(made(not_after=NOW + timedelta(minutes=10))), NOW + timedelta(minutes=10)
    assert accepted(chain, trusting(ROOT), expiry)
    message = refusal(UntrustedPeerError, chain, trusting(ROOT), expiry + timedelta(seconds=1))
    times = "expired at 2030-05-01T12:10:00Z; our clock says 2030-05-01T12:10:01Z"
    assert message == no_path("CN=root a", f"{SIGNER} {times}")


@pytest.mark.parametrize(("make", "when"), UNTIMELY)
def test_a_root_out_of_its_time_is_refused(make: Make, when: str) -> None:
    root = make(None)
    below = ca(root, slot="below", name="below")
    for chain in ([leaf(root, WEB)], [leaf(below, WEB), below]):
        assert refusal(UntrustedPeerError, chain, trusting(root)) == no_path("CN=i", f"{SIGNER} {when}")


@pytest.mark.parametrize(("make", "when"), UNTIMELY)
def test_an_intermediate_in_the_bundle_out_of_its_time_is_refused(make: Make, when: str) -> None:
    authority = make(ROOT)
    message = refusal(UntrustedPeerError, [leaf(authority, WEB)], trusting(authority))
    assert message == no_path("CN=i", f"{SIGNER} {when}")


def two_deep(root: Issued, first_length: int | None) -> list[Issued]:
    first = ca(root, slot="first", name="first", path_length=first_length)
    second = ca(first, slot="second", name="second")
    return [leaf(second, WEB), second, first]


@pytest.mark.parametrize(("root_length", "first_length"), [(None, None), (2, None), (2, 1), (None, 1)])
def test_a_path_as_long_as_its_signers_allow_is_verified(root_length: int | None, first_length: int | None) -> None:
    root = ca(path_length=root_length)
    assert accepted(two_deep(root, first_length), trusting(root))


@pytest.mark.parametrize(
    ("root_length", "first_length", "why"),
    [(1, None, "1 CAs below it, got 2"), (0, None, "0 CAs below it, got 2"), (None, 0, "0 CAs below it, got 1")],
)
def test_a_path_longer_than_a_signer_allows_is_refused(
    root_length: int | None, first_length: int | None, why: str
) -> None:
    root = ca(path_length=root_length)
    message = refusal(UntrustedPeerError, two_deep(root, first_length), trusting(root))
    assert message == no_path("CN=root", f"{SIGNER} allows {why}")


def uris(permitted: str) -> x509.NameConstraints:
    return x509.NameConstraints([x509.UniformResourceIdentifier(permitted)], None)


CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param([(x509.ExtendedKeyUsage([SERVER, CLIENT]), False)], id="a signer for both uses"),
        pytest.param([(x509.NameConstraints([x509.DNSName("b.test")], None), True)], id="constraints on other names"),
        pytest.param([(uris("a.test"), True)], id="constraints on URIs that permit the trust domain"),
    ],
)
def test_a_signer_may_be_limited_to_what_the_leaf_is(extra: list[tuple[x509.ExtensionType, bool]]) -> None:
    assert accepted(presented(made(extra=extra)), trusting(ROOT))


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        pytest.param(
            (uris("b.test"), True),
            "certificate abc123 has a name that its issuer's name constraints do not permit: 'spiffe://a.test/web'",
            id="constraints on URIs that permit another trust domain",
        ),
        pytest.param(
            (x509.ExtendedKeyUsage([SERVER]), False),
            f"{SIGNER} may not sign: wanted clientAuth in extendedKeyUsage",
            id="a signer for servers only",
        ),
        pytest.param(
            UNKNOWN_CRITICAL,
            f"{SIGNER} may not sign: its critical extension 1.3.6.1.4.1.55555.1 is not one that is understood here",
            id="a critical extension that nobody knows",
        ),
    ],
)
def test_a_signer_limited_otherwise_is_refused(extra: tuple[x509.ExtensionType, bool], why: str) -> None:
    message = refusal(UntrustedPeerError, presented(made(extra=[extra])), trusting(ROOT))
    assert message == no_path("CN=root a", why)
