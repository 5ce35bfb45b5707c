"""What a failure of OpenSSL is told as, by its reason and by whether the peer's handshake had begun."""

from __future__ import annotations

import ssl

import pytest

from meshtls.errors import HandshakeError, NoCertificateError, PeerError, PlaintextError
from meshtls.tls.failures import peer_error

NOT_TLS = PlaintextError("the peer's first bytes are not TLS; mutual TLS is required here")
AFTERWARDS = "the peer gave up, or broke the protocol, after its handshake had begun"


def failure(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.library, error.reason = "SSL", reason
    return error


@pytest.mark.parametrize(
    ("reason", "before", "begun"),
    [
        ("HTTP_REQUEST", NOT_TLS, HandshakeError(f"TLS failed: http request: {AFTERWARDS}")),
        ("WRONG_VERSION_NUMBER", NOT_TLS, HandshakeError(f"TLS failed: wrong version number: {AFTERWARDS}")),
        # Newer OpenSSLs say this of any record that is wrong: a peer that speaks TLS is not told as one that does not.
        (
            "RECORD_LAYER_FAILURE",
            HandshakeError("TLS failed: record layer failure"),
            HandshakeError(f"TLS failed: record layer failure: {AFTERWARDS}"),
        ),
        ("BAD_DIGEST_LENGTH", *[HandshakeError("TLS failed: bad digest length")] * 2),
        (
            "UNSUPPORTED_PROTOCOL",
            *[HandshakeError("no TLS version in common with the peer (unsupported protocol)")] * 2,
        ),
        (
            "PEER_DID_NOT_RETURN_A_CERTIFICATE",
            *[NoCertificateError("the peer presented no certificate; mutual TLS wants an X509-SVID from both sides")]
            * 2,
        ),
    ],
)
def test_a_failure_is_told_by_its_reason_and_by_what_came_before(
    reason: str, before: PeerError, begun: PeerError
) -> None:
    for wanted, found in ((before, peer_error(failure(reason))), (begun, peer_error(failure(reason), begun=True))):
        assert (type(found), str(found)) == (type(wanted), str(wanted))
