"""What a connection that verifies its peer raises, and when."""

from __future__ import annotations

import ssl

import pytest

from meshtls.errors import HandshakeError
from meshtls.policy.authorizer import authorize_any, authorize_one_of
from meshtls.tls.failures import RefusedHandshake
from meshtls.tls.verifying import VerifyingSSLObject
from tests.support.authority import context_for, make_authority
from tests.support.tls import context_of, engine_of

OURS = context_for(make_authority("example.org"), "/web")


def test_a_context_that_judges_nobody_is_refused_before_a_byte_is_sent() -> None:
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    plain.check_hostname = False
    plain.sslobject_class = VerifyingSSLObject
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(TypeError, match="^wanted the context of one generation, got SSLContext$"):
        plain.wrap_bio(incoming, outgoing).do_handshake()
    assert outgoing.pending == 0
    good = context_of(OURS, server_side=False).wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        good.do_handshake()
    assert outgoing.pending > 0


@pytest.mark.parametrize("allowed", [True, False])
def test_a_refusal_whose_alert_is_sent_first_is_raised_by_the_next_call(allowed: bool) -> None:
    authorizer = authorize_any() if allowed else authorize_one_of()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = context_of(OURS, server_side=True, authorizer=authorizer)
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    assert isinstance(server, VerifyingSSLObject)
    server.send_alert_first = True
    client = engine_of(OURS, server_side=False)
    client.handshake()
    incoming.write(client.outgoing())
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    client.feed(outgoing.read())
    assert client.handshake() is not None
    incoming.write(client.outgoing())
    if allowed:
        server.do_handshake()
        assert server.peer is not None
        return
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    client.feed(outgoing.read())
    with pytest.raises(HandshakeError, match="^the peer refused the connection with the alert"):
        client.read()
    with pytest.raises(RefusedHandshake):
        server.do_handshake()
