"""What every context of a generation refuses to its peers, by OpenSSL's own switches."""

from __future__ import annotations

import logging
import platform
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls import blocking, client_context
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.policy.authorizer import Decision, Target, authorize_any
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import TlsContexts, TlsOptions, _is_spoken
from tests.support.authority import LASTING, context_for, make_authority
from tests.support.tls import Ends, context_of, engine_of, shake

SNAPSHOT = context_for(make_authority("example.org"), "/web", ttl=LASTING)
#: From OpenSSL's ssl.h: compressed certificates, sent and received (RFC 8879), which 3.2 brought.
NO_CERTIFICATE_COMPRESSION = 1 << 32 | 1 << 33
BOTH_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("resumption", [False, True])
@pytest.mark.parametrize("version", BOTH_VERSIONS)
def test_no_context_renegotiates_or_compresses_what_it_sends(
    server_side: bool, resumption: bool, version: ssl.TLSVersion
) -> None:
    options = TlsOptions(minimum_version=version, resumption=resumption)
    context = context_of(SNAPSHOT, server_side=server_side, options=options)
    wanted = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    assert context.options & wanted == wanted


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize(
    ("library", "known"), [((3, 0, 19, 0, 0), False), ((3, 1, 9, 0, 0), False), ((3, 2, 0, 0, 0), True)]
)
def test_certificates_are_not_compressed_by_a_library_that_could(
    server_side: bool, library: tuple[int, ...], known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older one keeps the bits and does nothing with them, so they can be looked at with any."""
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", library)
    context = context_of(SNAPSHOT, server_side=server_side)
    assert context.options & NO_CERTIFICATE_COMPRESSION == (NO_CERTIFICATE_COMPRESSION if known else 0)


@pytest.mark.parametrize(
    "version", [one for one in ssl.TLSVersion if one not in BOTH_VERSIONS], ids=lambda one: one.name
)
def test_no_version_but_1_2_and_1_3_is_a_minimum(version: ssl.TLSVersion) -> None:
    with pytest.raises(ConfigError, match=f"^minimum TLS version: wanted TLSv1_2 or TLSv1_3, got {version.name}$"):
        TlsOptions(minimum_version=version)


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("version", BOTH_VERSIONS)
def test_a_context_speaks_no_older_version_than_its_minimum(server_side: bool, version: ssl.TLSVersion) -> None:
    options = TlsOptions(minimum_version=version)
    assert context_of(SNAPSHOT, server_side=server_side, options=options).minimum_version == version
    assert context_of(SNAPSHOT, server_side=server_side).minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("wrong", [None, "spiffe://example.org/web"])
def test_contexts_are_made_with_an_authorizer_alone(wrong: Any) -> None:
    source = ConstantSource(SNAPSHOT)
    assert TlsContexts(source, authorize_any(), server_side=True).current().server_side
    with pytest.raises(TypeError):
        TlsContexts(source, wrong, server_side=True)


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_contexts_with_other_alpn_protocols_keep_all_other_settings(server_side: bool) -> None:
    asked: list[VerifiedPeer] = []

    def noted(peer: VerifiedPeer, target: Target) -> Decision:
        asked.append(peer)
        return Decision(True, "noted")

    options = TlsOptions(minimum_version=ssl.TLSVersion.TLSv1_2, alpn=("h2",))
    contexts = TlsContexts(ConstantSource(SNAPSHOT), noted, server_side=server_side, options=options)
    assert contexts.with_alpn(("h2",)) is contexts
    other = contexts.with_alpn(("http/1.1",))
    assert other.options == TlsOptions(minimum_version=ssl.TLSVersion.TLSv1_2, alpn=("http/1.1",))
    assert (other.current().snapshot, other.server_side) == (SNAPSHOT, server_side)
    other.current().check_peer([one.public_bytes(Encoding.DER) for one in SNAPSHOT.svid.chain], None)
    assert [peer.spiffe_id for peer in asked] == [SNAPSHOT.svid.spiffe_id]


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_the_precheck_is_asked_about_one_target_as_long_as_peers_ask_for_one_port(server_side: bool) -> None:
    asked: list[Target] = []

    def noted(peer: VerifiedPeer, target: Target) -> Decision:
        asked.append(target)
        return Decision(True, "noted")

    context = TlsContexts(ConstantSource(SNAPSHOT), noted, server_side=server_side).current()
    chain = [one.public_bytes(Encoding.DER) for one in SNAPSHOT.svid.chain]
    ports = (80, 80, 81, None)
    for port in ports:
        context.check_peer(chain, port)
    assert asked == [Target(SNAPSHOT.svid.spiffe_id, port, not server_side) for port in ports]
    assert asked[0] is asked[1]


@pytest.mark.parametrize(("server_side", "done"), [(False, "made"), (True, "accepted")])
def test_the_log_says_when_there_is_no_identity_and_when_there_is_one_again(
    server_side: bool, done: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Source:
        error: LocalIdentityError | None = LocalIdentityError("our SVID has expired")

        def snapshot(self) -> X509Context:
            if self.error is not None:
                raise self.error
            return SNAPSHOT

    source = Source()
    contexts = TlsContexts(source, authorize_any(), server_side=server_side)
    with caplog.at_level(logging.INFO, "meshtls"):
        for _ in range(2):
            with pytest.raises(LocalIdentityError, match="^our SVID has expired$"):
                contexts.current()
        assert caplog.messages == [f"no connection can be {done}: our SVID has expired"]
        source.error = None
        assert contexts.current() is contexts.current()
    assert caplog.messages[1].startswith(f"an identity is there again: connections can be {done}")


@pytest.mark.parametrize(("theirs", "selected"), [(("http/1.1", "h2"), "h2"), (("http/1.1",), None), ((), None)])
def test_a_protocol_that_both_sides_offer_is_selected(theirs: tuple[str, ...], selected: str | None) -> None:
    server = engine_of(SNAPSHOT, server_side=True, options=TlsOptions(alpn=("h2",)))
    client = engine_of(SNAPSHOT, server_side=False, options=TlsOptions(alpn=theirs))
    assert shake(client, server) == Ends()
    assert [one.ssl_object.selected_alpn_protocol() for one in (client, server)] == [selected] * 2


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_an_authority_of_a_bundle_may_be_an_intermediate(server_side: bool) -> None:
    flags = context_of(SNAPSHOT, server_side=server_side).verify_flags
    assert flags & ssl.VERIFY_X509_PARTIAL_CHAIN


@pytest.mark.parametrize("connect", ["connect", "connect_ex"])
def test_a_socket_of_one_generation_connects_and_keeps_it(connect: str) -> None:
    context = context_of(SNAPSHOT, server_side=False)
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        context.wrap_socket(socket.socket(), do_handshake_on_connect=False) as tls,
    ):
        getattr(tls, connect)(listening.getsockname())
        assert tls.getpeername() == listening.getsockname()
        assert tls.context is context


@pytest.fixture
def afresh() -> Iterator[None]:
    """What the library speaks is asked anew in the test, and again afterwards."""
    _is_spoken.cache_clear()
    yield
    _is_spoken.cache_clear()


@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize("error", [ssl.SSLError, ValueError])
def test_a_group_that_the_ssl_module_does_not_know_is_refused(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_nist(context: ssl.SSLContext, group: str) -> None:
        if group == "X25519":
            raise error(group)

    monkeypatch.setattr(ssl.SSLContext, "set_ecdh_curve", only_nist)
    assert TlsOptions(group="prime256v1").group == "prime256v1"
    with pytest.raises(ConfigError) as raised:
        TlsOptions(group="X25519")
    assert str(raised.value) == (
        f"key exchange group: X25519 is unknown to the ssl module of Python {platform.python_version()};"
        " take another group, or a newer Python"
    )


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("resumption", [False, True])
def test_tickets_are_sent_only_where_sessions_are_resumed(server_side: bool, resumption: bool) -> None:
    context = context_of(SNAPSHOT, server_side=server_side, options=TlsOptions(resumption=resumption))
    assert bool(context.options & ssl.OP_NO_TICKET) is not resumption
    if server_side:
        assert context.num_tickets == int(resumption)


@pytest.mark.parametrize("resumption", [False, True])
def test_a_tls_1_2_client_is_offered_a_ticket_only_where_sessions_are_resumed(resumption: bool) -> None:
    options = TlsOptions(minimum_version=ssl.TLSVersion.TLSv1_2, resumption=resumption)
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one that asks for a ticket whatever we do
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
    plain.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = plain.wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    server = engine_of(SNAPSHOT, server_side=True, options=options)
    server.feed(outgoing.read())
    assert server.handshake() is None
    # ServerHello answers the extension session_ticket (35), empty, if a ticket is to follow (RFC 5077, section 3.2).
    assert (b"\x00\x23\x00\x00" in server.outgoing()[:120]) is resumption


@pytest.mark.parametrize("entered", [False, True], ids=["blocking()", "what it gives"])
def test_a_context_needs_a_source_that_is_entered(entered: bool) -> None:
    class Resource:
        async def __aenter__(self) -> ConstantSource:
            return ConstantSource(SNAPSHOT)

        async def __aexit__(self, *raised: object) -> None:
            return

    source = blocking(Resource())
    if entered:
        with source as value:
            assert client_context(value, authorize_any()) is not None
        return
    with pytest.raises(TypeError) as raised:
        client_context(source, authorize_any())  # type: ignore[arg-type]
    assert str(raised.value) == (
        f"source: wanted an X509ContextSource, which has snapshot(), got {source!r};"
        " of blocking(...) it is what `with` or enter() gives"
    )
