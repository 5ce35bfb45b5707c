"""Fuzz targets: SPIFFE IDs, bundles, JWT-SVIDs, certificates, requests, PEM files."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import strategies as st

from meshtls.agent.node.store import NodeStore
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.csr import public_key_of_csr
from meshtls.ca.keys.disk import DiskKeys
from meshtls.errors import (
    BundleError,
    ConfigError,
    InvalidSpiffeIdError,
    InvalidSvidError,
    LocalIdentityError,
    PeerError,
    RequestError,
)
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.jwt import parse_and_validate
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import X509Svid, parse_chain
from meshtls.workload.der import split_der
from tests.fuzz.running import documented, fuzzed, spliced
from tests.fuzz.values import json_values, odd_text, spoilt
from tests.support.authority import csr_for
from tests.support.certs import NOW, ca, key, leaf

TD = TrustDomain("a.test")
ROOT = ca(name="root")
INTERMEDIATE = ca(ROOT, slot="intermediate", name="intermediate")
LEAF = leaf(INTERMEDIATE, "spiffe://a.test/web", dns=["web"])
BUNDLE = TrustBundle(
    TD,
    (ROOT.certificate,),
    {"ec": key("jwt").public_key(), "rsa": key("jwt", "RSA").public_key()},
    2**64 - 1,
    300,
)
DOCUMENT: dict[str, Any] = json.loads(BUNDLE.to_jwks())
BUNDLES = BundleSet([BUNDLE])
HEADER = {"alg": "ES256", "kid": "ec", "typ": "JWT"}
CLAIMS = {"sub": "spiffe://a.test/web", "aud": ["db"], "exp": int(NOW.timestamp()) + 300, "iat": 1, "nbf": 1, "x": {}}
CSRS = [csr_for(key(kind=kind), "spiffe://a.test/x") for kind in ("P-256", "RSA")]
CERTIFICATES = [
    one.der for one in (LEAF, INTERMEDIATE, ROOT, ca(kind="RSA"), leaf(ROOT, "spiffe://a.test", ip=["::1"]))
]
# TLS feature, IP name constraint of four bytes, policies, inhibitAnyPolicy, policy constraints, CRL points, AIA, SAN.
EXTENSION_CONTENTS = [
    "3000", "3003020105", "300ca00a3008870400000000", "300830060604551d2000", "020100", "3003800100",
    "300b3009a007a0058603613a2f", "3000a0", "300a8208612e746573742e78", "30030101ff", "0303020106", "30060604551d2500",
]  # fmt: skip
assert isinstance(LEAF.key, ec.EllipticCurvePrivateKey)
LEAF_KEY: ec.EllipticCurvePrivateKey = LEAF.key
PEM_KEY = LEAF_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PEM = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in (LEAF, INTERMEDIATE))


def signed(header: bytes, claims: bytes) -> str:
    """A token with any content, signed by the bundle's key, so that the code after the signature check is reached."""
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims))
    signer = key("jwt")
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(signer.sign(text, ec.ECDSA(hashes.SHA256())))
    return (text + b"." + base64.urlsafe_b64encode(r.to_bytes(32) + s.to_bytes(32)).rstrip(b"=")).decode()


def test_spiffe_ids_and_trust_domains() -> None:
    def target(text: str) -> None:
        for parse in (SpiffeId.parse, TrustDomain.parse):
            found = documented(partial(parse, text), InvalidSpiffeIdError, size=len(text))
            assert found is None or (parse(str(found)) == found and str(found).isascii())

    sampled = spliced([b"spiffe://a.test/ns/default/sa/web", b"SPIFFE://A.test", b"a.test"])
    texts = odd_text | st.builds("spiffe://{}/{}".format, odd_text, odd_text)
    fuzzed(target, texts | sampled.map(lambda data: data.decode("latin-1")))


def test_bundle_documents() -> None:
    def target(text: bytes) -> None:
        for read in (TrustBundle.from_jwks, TrustBundle.from_jwt_jwks):
            found = documented(partial(read, TD, text), BundleError, size=len(text))
            if found is not None:
                assert TrustBundle.from_jwks(TD, found.to_jwks()) == found
                assert found.to_der() == TrustBundle.from_der(TD, split_der(found.to_der())).to_der()
                assert all(line.isprintable() for line in found.unusable)

    documents = spoilt(DOCUMENT).map(lambda value: json.dumps(value).encode())
    fuzzed(target, documents | spliced([json.dumps(DOCUMENT).encode()]) | st.binary(max_size=60))


def test_bundles_of_certificates() -> None:
    def target(data: bytes, pem: bytes) -> None:
        parts = documented(lambda: split_der(data), ValueError, size=len(data))
        if parts is not None:
            assert b"".join(parts) == data
            found = documented(lambda: TrustBundle.from_der(TD, parts), size=len(data))
            assert found is not None
            assert len(found.x509_authorities) + len(found.unusable) <= max(len(parts), 9)
            assert TrustBundle.from_der(TD, split_der(found.to_der())) == found
        documented(lambda: TrustBundle.from_pem(TD, pem), BundleError, size=len(pem))

    fuzzed(target, spliced([*CERTIFICATES, b"".join(CERTIFICATES)]), spliced([PEM, PEM_KEY]))


def test_jwt_svids_of_a_stranger() -> None:
    def target(token: str) -> None:
        documented(lambda: parse_and_validate(token, BUNDLES, "db", NOW), PeerError, size=len(token))

    good = signed(json.dumps(HEADER).encode(), json.dumps(CLAIMS).encode()).encode()
    fuzzed(target, spliced([good]).map(lambda data: data.decode("latin-1")) | odd_text)


def test_jwt_svids_that_a_trusted_key_signed() -> None:
    def target(header: bytes, claims: bytes) -> None:
        token = signed(header, claims)
        found = documented(lambda: parse_and_validate(token, BUNDLES, "db", NOW), PeerError, size=len(token))
        if found is not None:
            assert "db" in found.audience
            assert found.expiry > NOW
            assert found.claims == json.loads(claims)

    def either(good: Any) -> st.SearchStrategy[bytes]:
        return spoilt(good).map(lambda value: json.dumps(value).encode()) | spliced([json.dumps(good).encode()])

    fuzzed(
        target,
        st.just(json.dumps(HEADER).encode()) | either(HEADER),
        either(CLAIMS) | json_values.map(lambda v: json.dumps(v).encode()),
    )


def test_chains_of_a_stranger() -> None:
    def target(chain: list[bytes]) -> None:
        size = sum(map(len, chain))
        documented(lambda: verify_peer(chain, BUNDLES, NOW), PeerError, size=size)
        parsed = documented(lambda: parse_chain(chain), InvalidSvidError, size=size)
        if parsed is not None:
            assert [one.public_bytes(Encoding.DER) for one in parsed] == chain
            documented(lambda: X509Svid.from_chain(parsed, LEAF_KEY), LocalIdentityError, size=size)

    assert verify_peer([LEAF.der, INTERMEDIATE.der], BUNDLES, NOW).spiffe_id == SpiffeId(TD, "/web")
    one = spliced(CERTIFICATES)
    fuzzed(target, st.lists(one, max_size=4) | st.tuples(spliced([LEAF.der]), spliced([INTERMEDIATE.der])).map(list))


def test_chains_with_any_content_in_an_extension_raise_only_documented_errors() -> None:
    """Bytes at random rarely get past the parser of a certificate; the content of an extension is parsed late."""
    oids = st.sampled_from(
        [x509.ObjectIdentifier(f"2.5.29.{n}") for n in (9, 14, 15, 17, 18, 19, 30, 31, 32, 35, 36, 37, 54)]
    ) | (st.sampled_from([x509.ObjectIdentifier(f"1.3.6.1.5.5.7.1.{n}") for n in (1, 3, 11, 24)]))
    contents = spliced([bytes.fromhex(one) for one in EXTENSION_CONTENTS]) | st.binary(max_size=12)

    def target(place: int, oid: x509.ObjectIdentifier, content: bytes, critical: bool) -> None:
        extra = [(x509.UnrecognizedExtension(oid, content), critical)]
        try:
            root = ca(name="root", extra=extra if place == 0 else ())
            intermediate = ca(root, slot="intermediate", name="intermediate", extra=extra if place == 1 else ())
            end = leaf(intermediate, "spiffe://a.test/web", extra=extra if place == 2 else ())
        except ValueError:
            return  # the library has that extension in the certificate already
        chain = [end.der, intermediate.der]
        found = documented(lambda: TrustBundle.from_der(TD, [root.der]), size=len(root.der))
        assert found is not None
        for bundle in (found, TrustBundle(TD, (root.certificate,))):
            documented(partial(verify_peer, chain, BundleSet([bundle]), NOW), PeerError, size=sum(map(len, chain)))

    fuzzed(target, st.integers(0, 2), oids, contents, st.booleans())


def test_certificate_signing_requests() -> None:
    def target(request: bytes) -> None:
        documented(lambda: public_key_of_csr(request), RequestError, size=len(request))

    samples = [csr.public_bytes(form) for csr in CSRS for form in (Encoding.DER, Encoding.PEM)]
    for sample in samples:
        public_key_of_csr(sample)
    fuzzed(target, spliced(samples) | st.binary(max_size=80))


def test_pem_files_of_keys(tmp_path: Path) -> None:
    keys, node = tmp_path / "keys", tmp_path / "node"
    node.mkdir(mode=0o700)
    disk = DiskKeys(keys)
    for file in (keys / "root.pem", keys / "intermediate.pem", node / "agent-svid.pem", node / "bundle.json"):
        file.touch(0o600)
    (node / "bundle.json").write_text(BUNDLE.to_jwks())

    def target(pem: bytes) -> None:
        for file in (keys / "root.pem", keys / "intermediate.pem", node / "agent-svid.pem"):
            file.write_bytes(pem)
        documented(disk.load, ConfigError, size=len(pem))
        documented(lambda: NodeStore(node).load(TD), ConfigError, size=len(pem))

    target(PEM_KEY + PEM)
    assert NodeStore(node).load(TD) is not None
    fuzzed(target, spliced([PEM_KEY + PEM, PEM + PEM_KEY, PEM_KEY + ROOT.certificate.public_bytes(Encoding.PEM)]))
    disk.close()
