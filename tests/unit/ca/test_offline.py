"""CAs that an operator signs below an offline root: what they are, and each refusal beside what is accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.offline import ca_request, read_certificates, sign_request
from meshtls.ca.profile import Signer, leaf_certificate, root_certificate
from meshtls.errors import ConfigError, PeerError, RequestError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import PrivateKey
from tests.support.clock import ManualClock

PROD, TEST = TrustDomain("prod.example.org"), TrustDomain("test.example.org")
NOW = ManualClock().now()
YEAR, DAY = timedelta(days=365), timedelta(days=1)


def new_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def root_of(trust_domain: TrustDomain | None = None, ttl: timedelta = 10 * YEAR) -> Signer:
    key = new_key()
    return Signer(root_certificate(trust_domain, key, NOW, ttl), key)


ROOT = root_of()
KEY = new_key()


@dataclass(frozen=True)
class Wanted:
    """The arguments of sign_request."""

    csr: bytes = ca_request(PROD, KEY)
    issuer: Signer = ROOT
    trust_domain: TrustDomain = PROD
    ttl: timedelta = YEAR
    path_length: int = 1
    constrained: bool = True
    now: timedelta = timedelta()

    def sign(self) -> x509.Certificate:
        return sign_request(
            self.csr, self.issuer, self.trust_domain, NOW + self.now, self.ttl,
            path_length=self.path_length, constrained=self.constrained,
        )  # fmt: skip

    def below(self) -> Signer:
        """What it signs, as an issuer."""
        return Signer(self.sign(), KEY, (self.issuer.certificate, *self.issuer.above))


ENVIRONMENT = Wanted()


def verified(issuer: Signer, spiffe_id: SpiffeId) -> SpiffeId:
    """The ID of a leaf that this CA signs, as a peer verifies it."""
    leaf = leaf_certificate(spiffe_id, new_key().public_key(), (), issuer, NOW, DAY)
    path = (leaf, issuer.certificate, *issuer.above)
    for one, above in pairwise(path):
        one.verify_directly_issued_by(above)
    bundle = BundleSet([TrustBundle(spiffe_id.trust_domain, path[-1:])])
    return verify_peer([one.public_bytes(Encoding.DER) for one in path[:-1]], bundle, NOW).spiffe_id


def test_leaves_of_a_workload_ca_below_an_environments_ca_below_a_root_are_verified() -> None:
    workload = Wanted(issuer=ENVIRONMENT.below(), ttl=DAY, path_length=0).below()
    web = SpiffeId(PROD, "/web")
    assert verified(workload, web) == web


def test_a_constrained_ca_can_not_issue_for_another_trust_domain() -> None:
    stranger = SpiffeId(TEST, "/web")
    with pytest.raises(PeerError, match="name constraints do not permit"):
        verified(ENVIRONMENT.below(), stranger)
    assert verified(root_of(TEST), stranger) == stranger


def test_a_ca_is_of_its_trust_domain_and_has_its_path_length() -> None:
    made = ENVIRONMENT.sign()
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 1
    constraints = made.extensions.get_extension_for_class(x509.NameConstraints)
    permitted = constraints.value.permitted_subtrees or ()
    assert (constraints.critical, [one.value for one in permitted]) == (True, ["prod.example.org"])
    assert made.not_valid_after_utc == NOW + YEAR
    assert made.public_key() == KEY.public_key()


def spoiled_csr() -> bytes:
    der = bytearray(x509.load_pem_x509_csr(ENVIRONMENT.csr).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return bytes(der)


def request_on(curve: ec.EllipticCurve) -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(ec.generate_private_key(curve), hashes.SHA256()).public_bytes(Encoding.PEM)


LEAF = Signer(leaf_certificate(SpiffeId(PROD, "/web"), KEY.public_key(), (), ROOT, NOW, DAY), KEY)

REFUSED = [
    (replace(ENVIRONMENT, csr=b"no request"), RequestError, "CSR: wanted a PKCS#10 request in PEM or DER: "),
    (
        replace(ENVIRONMENT, csr=spoiled_csr()),
        RequestError,
        "CSR: its signature is not by the key it holds; sign it with that key",
    ),
    (
        replace(ENVIRONMENT, csr=request_on(ec.SECP521R1())),
        RequestError,
        "public key: wanted EC P-256, EC P-384 or RSA of 2048 to ",
    ),
    (
        replace(ENVIRONMENT, csr=ca_request(TEST, KEY)),
        RequestError,
        "CSR: wanted one for spiffe://prod.example.org, got one for spiffe://test.example.org",
    ),
    (
        replace(ENVIRONMENT, issuer=Signer(ROOT.certificate, new_key())),
        ConfigError,
        "the private key does not belong to the issuer's certificate; give the key of that certificate",
    ),
    (replace(ENVIRONMENT, issuer=LEAF), ConfigError, "the issuer can't sign a CA: "),
    (
        replace(ENVIRONMENT, now=11 * YEAR),
        ConfigError,
        "the issuer is valid from ",
    ),
    (
        replace(ENVIRONMENT, ttl=10 * YEAR + DAY),
        ConfigError,
        "wanted a CA until ",
    ),
    (
        Wanted(issuer=ENVIRONMENT.below(), ttl=DAY, path_length=1),
        ConfigError,
        "the issuer allows 1 CAs in a path below it, and this one needs 2: give a smaller --path-length, or another"
        " issuer",
    ),
    (
        Wanted(csr=ca_request(TEST, KEY), issuer=ENVIRONMENT.below(), trust_domain=TEST, ttl=DAY, path_length=0),
        ConfigError,
        "the issuer can't sign for trust domain test.example.org: it would have a name that its issuer's name"
        " constraints do not permit: ",
    ),
]


@pytest.mark.parametrize(("wanted", "kind", "message"), REFUSED)
def test_a_request_for_a_ca_that_could_not_be_used_is_refused(
    wanted: Wanted, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as refused:
        wanted.sign()
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    "wanted",
    [
        ENVIRONMENT,
        replace(ENVIRONMENT, csr=request_on(ec.SECP384R1())),
        replace(ENVIRONMENT, ttl=10 * YEAR),
        Wanted(issuer=ENVIRONMENT.below(), ttl=DAY, path_length=0),
        Wanted(
            csr=ca_request(TEST, KEY),
            issuer=replace(ENVIRONMENT, constrained=False).below(),
            trust_domain=TEST,
            ttl=DAY,
            path_length=0,
        ),
    ],
)
def test_the_twins_of_what_is_refused_are_signed(wanted: Wanted) -> None:
    wanted.sign().verify_directly_issued_by(wanted.issuer.certificate)


def test_certificates_are_read_from_pem_only() -> None:
    pem = ROOT.certificate.public_bytes(Encoding.PEM)
    assert read_certificates(pem * 2) == [ROOT.certificate] * 2
    with pytest.raises(ConfigError, match="^wanted certificates in PEM: "):
        read_certificates(ROOT.certificate.public_bytes(Encoding.DER))
