"""CRLs and OCSP requests from anywhere: a value or the documented error, at a bounded cost."""

from __future__ import annotations

import base64
from functools import partial
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import strategies as st

from meshtls.errors import PeerError
from meshtls.revocation.crl import CrlError, load_crl, parse_crl, parse_crls
from meshtls.revocation.lists import CrlLists, CrlRule
from meshtls.revocation.ocsp import (
    OCSP_GOOD,
    OcspError,
    OcspSigner,
    build_response,
    parse_request,
    request_of_path,
)
from meshtls.revocation.publishing import HttpAnswer, StatusQuestion, read
from meshtls.rpc.revocation_http import answer_head
from meshtls.svid.presented import Presented
from meshtls.svid.trust import Revocations, Trust
from meshtls.svid.verify import verify_peer
from tests.fuzz.running import documented, fuzzed, spliced
from tests.support.certs import AFTER, NOW, leaf
from tests.support.crls import crl
from tests.support.verifying import INTERMEDIATE, ROOT, WEB, A, trusting

UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
REASON = x509.CRLReason(x509.ReasonFlags.key_compromise)
CRLS = [
    crl(ROOT, 7, 8),
    crl(ROOT, number=None, key_ids=False),
    crl(INTERMEDIATE, 7, entry_extra=[(REASON, False)], extra=[(UNKNOWN, True)]),
    crl(ROOT, extra=[(x509.DeltaCRLIndicator(1), True)]),
]
PEMS = [x509.load_der_x509_crl(one).public_bytes(Encoding.PEM) for one in CRLS]
LEAF = leaf(INTERMEDIATE, WEB)
SIGNER = OcspSigner(INTERMEDIATE.certificate, INTERMEDIATE.certificate, INTERMEDIATE.private_key)


def asking(algorithm: hashes.HashAlgorithm, nonce: bytes) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(LEAF.certificate, INTERMEDIATE.certificate, algorithm)
    return builder.add_extension(x509.OCSPNonce(nonce), critical=False).build().public_bytes(Encoding.DER)


REQUESTS = [asking(hashes.SHA256(), b"n" * 32), asking(hashes.SHA224(), b"n"), asking(hashes.SHA512(), b"")]


def test_crls_of_a_stranger() -> None:
    def target(der: bytes, content: bytes) -> None:
        found = documented(partial(load_crl, der), CrlError, size=len(der))
        good = documented(partial(parse_crl, der), CrlError, size=len(der))
        documented(partial(parse_crls, content), CrlError, size=len(content))
        assert (good is not None) is (found is not None and found.problem is None)
        if found is None:
            return
        assert found.der == der
        assert found.issuer_text
        if good is not None:
            assert good.this_update <= good.next_update
            [again] = parse_crls(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM))
            assert again == good
        documented(lambda: found.signed_by(Presented.of(ROOT.certificate)), size=len(der))

    for one in CRLS:
        load_crl(one)
    fuzzed(target, spliced(CRLS) | st.binary(max_size=80), spliced(PEMS) | spliced([PEMS[0] + PEMS[1]]))


def test_a_spoilt_crl_admits_no_peer_that_the_good_one_refuses() -> None:
    """Where a CRL is required: the leaf is listed, and no spoilt copy of the list has its signature."""
    listed = crl(INTERMEDIATE, LEAF.certificate.serial_number)
    above = load_crl(crl(ROOT))

    def target(der: bytes) -> None:
        found = documented(partial(load_crl, der), CrlError, size=len(der))
        lists = CrlLists(rules={A: CrlRule((above,) if found is None else (above, found))})
        trust = Trust(1, trusting(ROOT), Revocations(lists=lists))
        chain = [LEAF.der, INTERMEDIATE.der]
        assert documented(lambda: verify_peer(chain, trust, NOW), PeerError, size=len(der)) is None

    clean = Trust(
        1, trusting(ROOT), Revocations(lists=CrlLists(rules={A: CrlRule((above, load_crl(crl(INTERMEDIATE))))}))
    )
    assert str(verify_peer([LEAF.der, INTERMEDIATE.der], clean, NOW).spiffe_id) == WEB
    fuzzed(target, spliced([listed]))


def test_crls_with_any_content_in_an_extension_raise_only_crl_errors() -> None:
    oids = st.sampled_from([x509.ObjectIdentifier(f"2.5.29.{n}") for n in (18, 20, 21, 24, 27, 28, 29, 35, 46, 60)])
    contents = st.binary(max_size=12) | spliced(
        [bytes.fromhex(one) for one in ("020101", "0a0101", "3000", "3003840101ff")]
    )

    def target(oid: x509.ObjectIdentifier, content: bytes, critical: bool, in_entry: bool) -> None:
        extra = [(x509.UnrecognizedExtension(oid, content), critical)]
        try:
            der = crl(ROOT, 7, extra=() if in_entry else extra, entry_extra=extra if in_entry else ())
        except ValueError:
            return  # the library has that extension in the CRL already
        documented(partial(parse_crl, der), CrlError, size=len(der))

    fuzzed(target, oids, contents, st.booleans(), st.booleans())


def test_ocsp_requests_of_a_stranger() -> None:
    def target(der: bytes, method: str, target_: str) -> None:
        query = documented(partial(parse_request, der), OcspError, size=len(der))
        if query is not None:
            assert query.nonce is None or 1 <= len(query.nonce) <= 128
            if SIGNER.answers(query):
                response = ocsp.load_der_ocsp_response(build_response(query, SIGNER, OCSP_GOOD, NOW, AFTER))
                assert response.serial_number == query.serial_number
        path = quote(base64.b64encode(der).decode(), safe="")
        assert documented(partial(request_of_path, path), size=len(path)) == der
        documented(partial(request_of_path, target_), OcspError, size=len(target_))
        for wanted in (f"/ocsp/{path}", f"/{target_}", f"/crl/{target_}", f"/ocsp/{target_}", "/ocsp"):
            found = documented(
                partial(read, method, wanted, "application/ocsp-request", der, [SIGNER]), size=len(der) + len(wanted)
            )
            assert isinstance(found, HttpAnswer | StatusQuestion | str)
            if isinstance(found, HttpAnswer):
                assert answer_head(found).count(b"\r\n\r\n") == 1

    assert SIGNER.answers(parse_request(REQUESTS[0]))
    texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60)
    fuzzed(target, spliced(REQUESTS) | st.binary(max_size=80), st.sampled_from(["GET", "HEAD", "POST", "PUT"]), texts)
