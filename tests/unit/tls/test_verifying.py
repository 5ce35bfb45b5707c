"""What a connection that verifies its peer raises, and when."""

from __future__ import annotations

import re
import ssl
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from meshtls.errors import (
    HandshakeError,
    InvalidSvidError,
    NotAuthorizedError,
    PlaintextError,
    RevokedError,
    ValidityError,
)
from meshtls.policy.authorizer import Decision, Target, authorize_any, authorize_one_of
from meshtls.policy.decision import PolicyVerdict
from meshtls.svid.trust import Revocations, RevokedCertificate
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.engine import TlsEngine
from meshtls.tls.failures import RefusedHandshake
from meshtls.tls.verifying import VerifyingSSLObject, on_message
from meshtls.wire.tls import ContentType, HandshakeType
from tests.support.authority import LASTING, context_for, make_authority
from tests.support.clock import ManualClock
from tests.support.tls import Ends, SlowClient, context_of, engine_of, shake

SIDES = (False, True)
AUTHORITY = make_authority("example.org")
OURS = context_for(AUTHORITY, "/web", ttl=LASTING)


def test_a_context_that_checks_no_peer_is_refused_before_a_byte_is_sent() -> None:
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
    with pytest.raises(ssl.SSLWantReadError) as wanted:
        server.do_handshake()
    assert wanted.value.errno == ssl.SSL_ERROR_WANT_READ
    client.feed(outgoing.read())
    with pytest.raises(HandshakeError, match="^the peer refused the connection with the alert"):
        client.read()
    with pytest.raises(RefusedHandshake):
        server.do_handshake()


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_the_authorizer_is_asked_once_for_a_handshake(server_side: bool) -> None:
    asked: list[VerifiedPeer] = []

    def noted(peer: VerifiedPeer, target: Target) -> Decision:
        asked.append(peer)
        return Decision(True, "noted")

    ends = {
        side: engine_of(OURS, server_side=side, authorizer=noted if side is server_side else None) for side in SIDES
    }
    assert shake(ends[False], ends[True]) == Ends()
    assert [peer.spiffe_id for peer in asked] == [OURS.svid.spiffe_id]


class SetBackClock(ManualClock):
    """Set right after it was read once while it was ``ahead``."""

    ahead = False

    def now(self) -> datetime:
        ahead, self.ahead = self.ahead, False
        return super().now() + timedelta(days=365 if ahead else 0)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_peer_that_was_refused_within_its_handshake_stays_so(ahead: bool) -> None:
    clock = SetBackClock()
    server = engine_of(OURS, server_side=True, clock=clock)
    clock.ahead = ahead
    ends = shake(engine_of(OURS, server_side=False), server)
    assert isinstance(ends.server, ValidityError) is ahead
    assert (server.peer is None) is ahead


def test_a_malformed_certificate_message_is_refused_within_the_handshake() -> None:
    client, server = engine_of(OURS, server_side=False), engine_of(OURS, server_side=True)
    client.handshake()
    server.feed(client.outgoing())
    assert server.handshake() is None
    version, malformed = ssl.TLSVersion.TLSv1_3, b"\x0b\x00\x00\x01"
    on_message(server.ssl_object, "read", version, ContentType.HANDSHAKE, HandshakeType.CERTIFICATE, malformed)
    ends = shake(client, server)
    assert isinstance(ends.server, InvalidSvidError)
    assert str(ends.server).startswith("the peer's Certificate message is malformed: ")
    assert str(ends.client) == "the peer refused the connection with the alert 'unknown ca'"


@pytest.mark.parametrize("early", [True, False], ids=["within the handshake", "after it"])
def test_the_authorizer_is_given_the_port_that_the_peer_asks_for(early: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not early:
        monkeypatch.setattr("meshtls.tls.context.watch_messages", lambda context, callback: None)
    targets: list[Target] = []

    def noted(peer: VerifiedPeer, target: Target) -> Decision:
        targets.append(target)
        return Decision(True, "noted")

    server = TlsEngine(context_of(OURS, server_side=True, authorizer=noted), port=5432)
    assert shake(engine_of(OURS, server_side=False), server) == Ends()
    assert targets == [Target(OURS.svid.spiffe_id, 5432)]


def test_a_part_of_a_handshake_as_long_as_the_allowance_is_shown_to_openssl_whole() -> None:
    client = engine_of(OURS, server_side=False)
    client.handshake()
    hello = client.outgoing()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context_of(OURS, server_side=True).wrap_bio(incoming, outgoing, server_side=True)
    assert isinstance(server, VerifyingSSLObject)
    server.allowance, server.large = len(hello), None
    incoming.write(hello)
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    assert (server.allowance, server.refusal, outgoing.pending > 0) == (0, None, True)


@pytest.mark.parametrize("name", ["db.example.org", None])
def test_a_server_knows_the_name_that_its_client_asked_for(name: str | None) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context_of(OURS, server_side=False).wrap_bio(incoming, outgoing, server_hostname=name)
    server = engine_of(OURS, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    server.feed(outgoing.read())
    assert server.handshake() is None
    incoming.write(server.outgoing())
    client.do_handshake()
    server.feed(outgoing.read())
    assert server.handshake() is not None
    assert server.sni == name
    assert isinstance(client, VerifyingSSLObject)
    assert client.sni is None


@pytest.mark.parametrize("early", [True, False], ids=["within the handshake", "after it"])
@pytest.mark.parametrize("verdict", PolicyVerdict)
def test_a_peer_is_accepted_only_where_the_authorizer_allows_it(
    verdict: PolicyVerdict, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not early:
        monkeypatch.setattr("meshtls.tls.context.watch_messages", lambda context, callback: None)
    decision = Decision.of(verdict, "as the test says")
    server = engine_of(OURS, server_side=True, authorizer=lambda peer, target: decision)
    ends = shake(engine_of(OURS, server_side=False), server)
    if verdict is PolicyVerdict.ALLOW:
        assert (ends.server, server.peer is not None) == (None, True)
    else:
        assert isinstance(ends.server, NotAuthorizedError)
        assert (str(ends.server), server.peer) == (decision.reason, None)


@pytest.mark.parametrize("revoked", [False, True])
def test_a_revoked_peer_is_refused_within_the_handshake(revoked: bool) -> None:
    client = context_for(AUTHORITY, "/web")
    leaf, issuer = client.svid.chain[:2]
    revocations = Revocations.of([RevokedCertificate.of(leaf, issuer)] if revoked else [])
    server = engine_of(replace(OURS, revocations=revocations), server_side=True)
    ends = shake(engine_of(client, server_side=False), server)
    assert isinstance(ends.server, RevokedError) is revoked
    assert (server.peer is None, ends.client is not None) == (revoked, revoked)


#: What a peer sends that gives up within the handshake: close_notify, not encrypted, with the version of a ClientHello.
GIVES_UP = bytes.fromhex("15 03 01 00 02 01 00")


def test_a_client_that_gives_up_after_its_client_hello_does_not_speak_plaintext() -> None:
    server = engine_of(OURS, server_side=True)
    server.feed(SlowClient().hello)
    assert server.handshake() is None
    server.feed(GIVES_UP)
    # The first as OpenSSL 3.0 says it, the second as 3.6 does.
    reason = "TLS failed: (wrong version number|record layer failure)"
    words = f"^{reason}: the peer gave up, or broke the protocol, after its handshake had begun$"
    with pytest.raises(HandshakeError, match=words) as refused:
        server.handshake()
    assert not isinstance(refused.value, PlaintextError)


@pytest.mark.parametrize("server_side", [True, False])
def test_a_peer_whose_first_bytes_are_not_tls_speaks_plaintext(server_side: bool) -> None:
    engine = engine_of(OURS, server_side=server_side)
    engine.handshake()
    engine.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    words = "the peer's first bytes are not TLS; mutual TLS is required here"
    with pytest.raises(PlaintextError, match=f"^{re.escape(words)}$"):
        engine.handshake()
