"""What ``verify_peer``, OpenSSL and go-spiffe accept, chain by chain: ours is a part of what OpenSSL accepts."""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import PeerError
from meshtls.spiffeid import TrustDomain
from meshtls.svid.verify import verify_peer
from meshtls.tls.context import TlsOptions, harden
from tests.support.chain_table import CASES, WEB, Case, table
from tests.support.gospiffe import build_go_peer, go_peer

A = TrustDomain("a.test")
BY_NAME = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def accepted(case: Case) -> str:
    """As whom ``verify_peer`` accepts this peer, or why it does not."""
    bundles = BundleSet([TrustBundle(A, tuple(one.certificate for one in case.authorities))])
    try:
        return str(verify_peer([one.der for one in case.chain], bundles, datetime.now(UTC)).spiffe_id)
    except PeerError as error:
        return f"refused: {error}"


@BY_NAME
def test_verify_peer_accepts_the_chains_of_the_table(case: Case) -> None:
    verdict = accepted(case)
    if case.accepted:
        assert verdict == WEB
    else:
        assert verdict.startswith("refused: ")
        assert case.why, "a refusal has a reason"


@BY_NAME
def test_openssl_accepts_the_chains_of_the_table(case: Case, tmp_path: Path) -> None:
    accepted = all(openssl_accepts(case, tmp_path, as_server=as_server) for as_server in (False, True))
    if case.accepted or ssl.OPENSSL_VERSION_INFO[:2] == (3, 0):
        assert accepted is case.openssl
    # Another version may refuse more of what we refuse ourselves, or take a key for which the first had no signature
    # scheme, as 3.6 has for brainpoolP256r1 (RFC 8734).
    assert case.openssl or not accepted or "signature scheme" in case.why


def test_openssl_refuses_no_chain_that_we_accept() -> None:
    assert [case.name for case in CASES if case.accepted and not case.openssl] == []


def test_every_difference_has_its_reason() -> None:
    assert [case.name for case in CASES if not case.why and len({case.accepted, case.openssl, case.go}) > 1] == []


def test_the_documentation_holds_the_table() -> None:
    written = (Path(__file__).parents[3] / "docs" / "certificates.md").read_text()
    assert table() in written, "put in what `python -m tests.support.chain_table` prints"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_go_peer(tmp_path_factory.mktemp("go"))


@pytest.mark.timeout(900)  # the first build compiles gRPC
async def test_go_spiffe_accepts_what_the_table_says(program: Path) -> None:
    wrong = {}
    async with go_peer(program, "unix:///nowhere", "verify") as peer:
        for case in CASES:
            said = await peer.ask(json.dumps(question(case)))
            if said != {"event": "verified", "peer": WEB} if case.go else said["event"] != "refused":
                wrong[case.name] = said
    assert wrong == {}


def question(case: Case) -> dict[str, object]:
    """What the Go program wants to know (tests/interop/go/verify.go)."""
    return {
        "domain": str(A),
        "authorities": [base64.b64encode(one.der).decode() for one in case.authorities],
        "chain": [base64.b64encode(one.der).decode() for one in case.chain],
    }


def openssl_accepts(case: Case, directory: Path, *, as_server: bool) -> bool:
    """Whether a side that has OpenSSL alone, with the settings of our contexts, takes this peer."""
    side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if as_server else ssl.PROTOCOL_TLS_SERVER)
    harden(side, TlsOptions(), server_side=not as_server)
    side.load_verify_locations(cadata=b"".join(one.der for one in case.authorities))
    peer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if as_server else ssl.PROTOCOL_TLS_CLIENT)
    peer.check_hostname, peer.verify_mode = False, ssl.CERT_NONE
    peer.set_ciphers("ALL:@SECLEVEL=0")  # what it may present is for the other side to judge
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(b"".join(one.certificate.public_bytes(Encoding.PEM) for one in case.chain))
    key.write_bytes(case.chain[0].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        peer.load_cert_chain(chain, key)
        if not as_server:
            side.load_cert_chain(*_any_certificate(directory))
        return _shake(peer, side, as_server=as_server)
    except ssl.SSLError:
        return False


def _any_certificate(directory: Path) -> tuple[Path, Path]:
    good = next(case for case in CASES if case.accepted).chain[0]
    chain, key = directory / "own.pem", directory / "own-key.pem"
    chain.write_bytes(good.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(good.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, key


def _shake(peer: ssl.SSLContext, side: ssl.SSLContext, *, as_server: bool) -> bool:
    """True where ``side`` ends its handshake; raises ssl.SSLError where it, or OpenSSL for the peer, refuses."""
    to_side, to_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = peer.wrap_bio(to_peer, to_side, server_side=as_server)
    ours = side.wrap_bio(to_side, to_peer, server_side=not as_server)
    done = {theirs: False, ours: False}
    for _ in range(6):
        for end in (theirs, ours):
            if not done[end]:
                try:
                    end.do_handshake()
                    done[end] = True
                except ssl.SSLWantReadError:
                    continue
    return done[ours]
