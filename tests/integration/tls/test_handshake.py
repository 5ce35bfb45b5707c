"""Which handshakes succeed, which fail, and the error of each side. Real OpenSSL, in memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.errors import (
    ConfigError,
    HandshakeError,
    InvalidSvidError,
    LocalIdentityError,
    NoBundleError,
    NoCertificateError,
    NotAuthorizedError,
    PeerError,
    PlaintextError,
    UntrustedPeerError,
    ValidityError,
)
from meshtls.policy.authorizer import authorize_id
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.tls.context import TlsContexts, TlsOptions
from meshtls.tls.engine import TlsEngine
from meshtls.tls.peer import presented_chain
from tests.support.authority import Leaf, context_for, make_authority, mint_raw, svid_for
from tests.support.clock import ManualClock
from tests.support.tls import Ends, context_of, engine_of, shake

OURS = make_authority("example.org")
PARTNER = make_authority("partner.test")
FOREIGN = make_authority("example.org")  # the same name, another key
CLIENT, SERVER = "spiffe://example.org/client", "spiffe://example.org/server"
TLS12 = TlsOptions(minimum_version=ssl.TLSVersion.TLSv1_2)


def server_context() -> X509Context:
    """The server trusts our own domain and a federated partner's."""
    return context_for(OURS, SERVER, federated=[PARTNER.bundle])


def presenting(authority: Authority, leaf: Leaf) -> X509Context:
    """A client that presents this leaf and trusts the server, whatever the leaf says."""
    return X509Context(1, (mint_raw(authority, leaf),), BundleSet([OURS.bundle]))


@dataclass(frozen=True)
class Refused:
    """One client that a server refuses: the class of the error, words of its message, and the alert sent.

    ``to_caller``: the words if it is a server that a client refuses, where they differ.
    """

    client: Callable[[], X509Context]
    error: type[PeerError]
    words: str
    alert: str = "unknown ca"
    to_caller: str = ""


GOOD = Leaf(uris=(CLIENT,))
REFUSED = {
    "an ID that is not allowed": Refused(
        lambda: presenting(OURS, replace(GOOD, uris=("spiffe://example.org/other",))),
        NotAuthorizedError,
        "peer spiffe://example.org/other is not allowed to reach spiffe://example.org/server; "
        "allowed: spiffe://example.org/client",
        to_caller="the server is spiffe://example.org/other; expected: spiffe://example.org/client",
    ),
    "expired": Refused(
        lambda: presenting(OURS, replace(GOOD, starts_in=-60, ends_in=-30)),
        ValidityError,
        "expired at",
        "certificate expired",
    ),
    "not yet valid": Refused(
        lambda: presenting(OURS, replace(GOOD, starts_in=60)),
        ValidityError,
        "is not valid before",
        "bad certificate",
    ),
    "a foreign CA's certificate with an ID of ours": Refused(
        lambda: presenting(FOREIGN, GOOD),
        UntrustedPeerError,
        "no path to a root of the bundle of trust domain example.org",
    ),
    "a trusted partner's CA minting an ID of ours": Refused(
        lambda: presenting(PARTNER, GOOD),
        UntrustedPeerError,
        "no path to a root of the bundle of trust domain example.org",
    ),
    "a trust domain that we have no bundle of": Refused(
        lambda: presenting(OURS, replace(GOOD, uris=("spiffe://stranger.test/client",))),
        NoBundleError,
        "no bundle for trust domain stranger.test",
    ),
    "two URI SANs": Refused(
        lambda: presenting(OURS, replace(GOOD, uris=(CLIENT, CLIENT + "2"))),
        InvalidSvidError,
        "wanted exactly one URI SAN, got 2",
    ),
    "a CA certificate as the leaf": Refused(
        lambda: presenting(OURS, replace(GOOD, ca=True)),
        InvalidSvidError,
        "a CA certificate can't authenticate a workload",
    ),
    "a key usage that does not sign": Refused(
        lambda: presenting(OURS, replace(GOOD, key_usage=("key_encipherment",))),
        InvalidSvidError,
        "wanted digitalSignature in keyUsage",
    ),
}


@pytest.mark.parametrize("options", [TlsOptions(), TLS12], ids=["TLS 1.3", "TLS 1.2 allowed"])
def test_two_members_of_one_trust_domain_meet(options: TlsOptions) -> None:
    client = engine_of(context_for(OURS, CLIENT), server_side=False, authorizer=authorize_id(SERVER), options=options)
    server = engine_of(server_context(), server_side=True, authorizer=authorize_id(CLIENT), options=options)
    ends = shake(client, server)
    assert (ends.client, ends.server) == (None, None)
    assert client.peer is not None
    assert server.peer is not None
    assert (str(client.peer.spiffe_id), str(server.peer.spiffe_id)) == (SERVER, CLIENT)
    assert (server.tls_version, server.cipher_suite) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")


def test_a_raw_leaf_that_keeps_every_rule_is_accepted() -> None:
    client = engine_of(presenting(OURS, GOOD), server_side=False)
    server = engine_of(server_context(), server_side=True, authorizer=authorize_id(CLIENT))
    assert shake(client, server).server is None


def test_a_partner_is_accepted_under_an_id_of_its_own_trust_domain() -> None:
    theirs = X509Context(1, (svid_for(PARTNER, "/app"),), BundleSet([OURS.bundle]))
    server = engine_of(server_context(), server_side=True)
    assert shake(engine_of(theirs, server_side=False), server).server is None
    assert server.peer is not None
    assert str(server.peer.spiffe_id) == "spiffe://partner.test/app"


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_a_server_refuses_an_unacceptable_client(case: Refused) -> None:
    client = engine_of(case.client(), server_side=False)
    server = engine_of(server_context(), server_side=True, authorizer=authorize_id(CLIENT))
    ends = shake(client, server)
    assert type(ends.server) is case.error
    assert case.words in str(ends.server)
    assert server.peer is None
    assert str(ends.client) == f"the peer refused the connection with the alert {case.alert!r}"


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_a_client_refuses_an_unacceptable_server_before_presenting_its_own_certificate(case: Refused) -> None:
    server = engine_of(case.client(), server_side=True)
    client = engine_of(
        context_for(OURS, SERVER, federated=[PARTNER.bundle]), server_side=False, authorizer=authorize_id(CLIENT)
    )
    ends = shake(client, server)
    assert type(ends.client) is case.error
    assert (case.to_caller or case.words) in str(ends.client)
    assert str(ends.server) == f"the peer refused the connection with the alert {case.alert!r}"
    assert presented_chain(server.ssl_object) == []


def test_a_client_without_a_certificate_is_refused_with_the_alert_for_that() -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(cadata=OURS.bundle.to_der())
    outcome = against_plain_client(bare)
    assert type(outcome.server) is NoCertificateError
    assert "certificate required" in outcome.client


def test_a_plain_client_that_presents_an_svid_is_accepted() -> None:
    with_svid = context_of(context_for(OURS, CLIENT), server_side=False)
    assert against_plain_client(with_svid).server is None


def test_tls_1_2_is_refused_unless_the_option_allows_it() -> None:
    old = context_of(context_for(OURS, CLIENT), server_side=False, options=TLS12)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    refused = against_plain_client(old)
    assert str(refused.server) == "no TLS version in common with the peer (unsupported protocol)"
    assert "protocol version" in refused.client
    assert against_plain_client(old, TLS12).server is None


def test_a_tls_1_2_client_is_judged_by_the_same_rules() -> None:
    old = context_of(presenting(PARTNER, GOOD), server_side=False, options=TLS12)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    outcome = against_plain_client(old, TLS12)
    assert type(outcome.server) is UntrustedPeerError
    assert "unknown ca" in outcome.client


@pytest.mark.parametrize(
    ("suite", "taken"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES128-SHA256", False),
        ("ECDHE-ECDSA-AES256-SHA", False),
        ("ECDHE-ECDSA-AES128-CCM", False),
    ],
)
def test_tls_1_2_uses_only_aead_suites_with_forward_secrecy(suite: str, taken: bool) -> None:
    old = context_of(context_for(OURS, CLIENT), server_side=False, options=TLS12)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers(suite)
    refused = against_plain_client(old, TLS12).server
    assert (refused is None) is taken
    assert taken or str(refused) == "TLS failed: no shared cipher"


def knows(group: str) -> bool:
    """Whether this Python's ssl module does: before 3.11.4 it knows the curves of the NIST alone."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ecdh_curve(group)
    except ssl.SSLError:
        return False
    return True


@pytest.mark.parametrize("theirs", [None, "X25519", "prime256v1", "secp384r1"])
@pytest.mark.parametrize("ours", ["X25519", "prime256v1", "secp384r1"])
def test_a_server_with_one_key_exchange_accepts_only_clients_that_offer_it(ours: str, theirs: str | None) -> None:
    if "X25519" in (ours, theirs) and not knows("X25519"):
        with pytest.raises(ConfigError, match="^key exchange group: X25519 is unknown to the ssl module of Python"):
            TlsOptions(group="X25519")
        return
    client = engine_of(context_for(OURS, CLIENT), server_side=False, options=TlsOptions(group=theirs))
    server = engine_of(server_context(), server_side=True, options=TlsOptions(group=ours))
    ends = shake(client, server)
    if theirs in (None, ours):
        assert ends == Ends()
    else:
        assert str(ends.server) == "TLS failed: no suitable key share"
        assert str(ends.client) == "the peer refused the connection with the alert 'handshake failure'"


def test_a_key_exchange_outside_our_list_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        TlsOptions(group="secp256k1")
    assert str(refused.value) == ("key exchange group: wanted X25519, prime256v1, secp384r1 or None, got 'secp256k1'")


def test_plaintext_is_named_as_such() -> None:
    server = engine_of(server_context(), server_side=True)
    server.feed(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
    with pytest.raises(PlaintextError, match="not TLS; mutual TLS is required"):
        server.handshake()


@pytest.mark.parametrize("header", [b"\x17\x03\x03\xff\xff", b"\x17\x09\x03\x00\x20"], ids=["length", "version"])
def test_a_bad_record_after_the_handshake_is_not_called_plaintext(header: bytes) -> None:
    client = engine_of(context_for(OURS, CLIENT), server_side=False)
    server = engine_of(server_context(), server_side=True)
    shake(client, server)
    server.feed(header + bytes(1 << 16))
    with pytest.raises(HandshakeError, match="^TLS failed: ") as broken:
        server.read()
    assert not isinstance(broken.value, PlaintextError)


def test_an_end_in_the_middle_of_the_handshake_is_an_error() -> None:
    client = engine_of(context_for(OURS, CLIENT), server_side=False)
    server = engine_of(server_context(), server_side=True)
    client.handshake()
    server.feed(client.outgoing())
    assert server.handshake() is None
    server.feed_eof()
    with pytest.raises(HandshakeError, match="closed the connection in the middle"):
        server.handshake()


def test_the_verdict_follows_the_clock_it_is_given() -> None:
    clock = ManualClock()
    server = engine_of(server_context(), server_side=True, clock=clock)
    clock.advance(2 * 3600)
    ends = shake(engine_of(context_for(OURS, CLIENT), server_side=False), server)
    assert type(ends.server) is ValidityError
    assert "our clock says" in str(ends.server)
    assert server.peer is None


@pytest.mark.parametrize("client_id", [CLIENT, "spiffe://example.org/other"])
def test_reading_before_the_handshake_does_not_get_around_the_verdict(client_id: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside = context_of(server_context(), server_side=True, authorizer=authorize_id(CLIENT))
    server = inside.wrap_bio(to_server, to_client, server_side=True)
    client = context_of(context_for(OURS, client_id), server_side=False).wrap_bio(to_client, to_server)
    with pytest.raises(ssl.SSLWantReadError):
        client.write(b"")
    with pytest.raises(ssl.SSLWantReadError):
        server.read(1)
    client.write(b"let me in")
    if client_id == CLIENT:
        assert server.read(9) == b"let me in"
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match="is not allowed to reach"):
            server.read(9)


@pytest.mark.parametrize("early", [True, False], ids=["refused early", "refused late"])
@pytest.mark.parametrize("client_id", [CLIENT, "spiffe://example.org/other"])
def test_writing_before_the_handshake_does_not_get_around_the_verdict(
    client_id: str, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not early:
        monkeypatch.setattr("meshtls.tls.context.on_message", lambda *message: None)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside = context_of(server_context(), server_side=True, authorizer=authorize_id(CLIENT))
    server = inside.wrap_bio(to_server, to_client, server_side=True)
    client = context_of(context_for(OURS, client_id), server_side=False).wrap_bio(to_client, to_server)
    for side in (client, server):
        with pytest.raises(ssl.SSLWantReadError):
            side.write(b"hello")
    client.write(b"hello")
    if client_id == CLIENT:
        assert server.write(b"secret") == 6
        assert client.read(6) == b"secret"
    else:
        with pytest.raises(ssl.SSLError):
            server.write(b"secret")
        with pytest.raises(ssl.SSLError):
            client.read(6)


def test_a_broken_record_leaves_nothing_behind_for_the_next_connection() -> None:
    """All engines share one pair of BIOs: what a failure leaves in them would be read as another connection's."""
    broken, sound = pair(), pair()
    assert shake(*broken) == shake(*sound) == Ends()
    broken[1].feed(b"\x17\x03\x03\x00\x20" + b"no such record" * 100)
    with pytest.raises(HandshakeError, match="bad record mac|record layer failure"):
        broken[1].read()
    assert broken[1].outgoing()[:1] == b"\x17", "the alert, encrypted"
    sound[0].write(b"untouched")
    sound[1].feed(sound[0].outgoing())
    assert sound[1].read() == b"untouched"
    assert sound[1].outgoing() == b""


def test_half_a_record_of_one_connection_stays_out_of_the_others() -> None:
    one, two = pair(), pair()
    assert shake(*one) == shake(*two) == Ends()
    record = one[0].seal(b"in two halves")
    one[1].feed(record[:20])
    assert one[1].read() == b""
    two[1].feed(two[0].seal(b"in between"))
    assert two[1].read() == b"in between"
    one[1].feed(record[20:])
    assert one[1].read() == b"in two halves"


def test_application_data_right_behind_the_handshake_is_not_lost() -> None:
    client, server = pair()
    client.handshake()
    server.feed(client.outgoing())
    server.handshake()
    client.feed(server.outgoing())
    assert client.handshake() is not None
    client.write(b"early")
    server.feed(client.outgoing())
    assert server.handshake() is not None
    assert server.read() == b"early"


def test_our_last_flight_and_the_first_data_may_go_together() -> None:
    client, server = pair()
    client.handshake()
    server.feed(client.outgoing())
    server.handshake()
    client.feed(server.outgoing())
    assert client.handshake() is not None
    assert client.unsent
    server.feed(client.seal(b"at once"))
    assert client.unsent == client.outgoing() == b""
    assert server.handshake() is not None
    assert server.read() == b"at once"


def test_an_engine_carries_nothing_before_the_verdict() -> None:
    client, _ = pair()
    with pytest.raises(HandshakeError):
        client.seal(b"too early")
    refused = engine_of(presenting(PARTNER, GOOD), server_side=False)
    server = engine_of(server_context(), server_side=True)
    assert type(shake(refused, server).server) is UntrustedPeerError
    with pytest.raises(PeerError):
        server.seal(b"for nobody")
    with pytest.raises(PeerError):
        server.open(memoryview(b"\x17\x03\x03\x00\x01x"), memoryview(bytearray(1 << 16)))
    assert server.peer is None


def pair() -> tuple[TlsEngine, TlsEngine]:
    """A client and a server that accept each other."""
    client = engine_of(context_for(OURS, CLIENT), server_side=False)
    return client, engine_of(server_context(), server_side=True, authorizer=authorize_id(CLIENT))


def test_the_final_verification_refuses_without_the_early_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshtls.tls.context.watch_messages", lambda context, callback: None)
    client = engine_of(presenting(PARTNER, GOOD), server_side=False)
    server = engine_of(server_context(), server_side=True)
    ends = shake(client, server)
    assert type(ends.server) is UntrustedPeerError
    assert server.peer is None
    assert ends.client is None
    assert not client.peer_closed, "OpenSSL let it pass, so the handshake is over; a clean end would be an answer"


def test_a_context_needs_an_svid() -> None:
    nobody = ConstantSource(X509Context(1, (), BundleSet([OURS.bundle])))
    contexts = TlsContexts(nobody, authorize_id(CLIENT), server_side=True)
    with pytest.raises(LocalIdentityError, match="has no X509-SVID"):
        contexts.current()


@dataclass
class PlainOutcome:
    client: str
    server: PeerError | None


def against_plain_client(context: ssl.SSLContext, options: TlsOptions = TlsOptions()) -> PlainOutcome:
    """One handshake of our server with a client that is not our engine."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    return exchange(client, incoming, outgoing, engine_of(server_context(), server_side=True, options=options))


def exchange(
    client: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server: TlsEngine
) -> PlainOutcome:
    """Carry the bytes of a handshake; what the client met in OpenSSL's words, and the server's refusal."""
    outcome = PlainOutcome("", None)
    for _ in range(6):
        try:
            client.do_handshake()
            client.read(1)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            outcome.client = outcome.client or str(error)
        server.feed(outgoing.read())
        try:
            if outcome.server is None:
                server.handshake()
        except PeerError as error:
            outcome.server = error
        incoming.write(server.outgoing())
    return outcome
