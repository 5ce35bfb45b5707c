"""Tickets between two engines: a resumed peer is verified and authorized like any other. Real OpenSSL, no wire."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

import pytest

from meshtls.errors import NotAuthorizedError, PeerError, UntrustedPeerError, ValidityError
from meshtls.policy.authorizer import Decision, Target
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.trust import Trust
from meshtls.svid.verifier import PeerVerifier
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext, TlsContexts, TlsOptions
from meshtls.tls.engine import TlsEngine
from meshtls.tls.handshake_budget import LargeHandshakes
from meshtls.tls.sessions import Sessions
from tests.support.authority import context_for, make_authority
from tests.support.clock import ManualClock
from tests.support.tls import Ends, context_of, shake

OURS = make_authority("example.org")
CLIENT, SERVER = "spiffe://example.org/client", "spiffe://example.org/server"
RESUMING = TlsOptions(resumption=True)
PLACE = "127.0.0.1:15006"


@dataclass
class Switch:
    """An authorizer that a test can turn off. ``asked`` are the targets that it was asked about."""

    on: bool = True
    asked: list[Target] = field(default_factory=list)

    def __call__(self, peer: VerifiedPeer, target: Target) -> Decision:
        self.asked.append(target)
        return Decision(self.on, "allowed" if self.on else "not any more")


@dataclass
class Rotating:
    """A source whose context a test exchanges."""

    context: X509Context

    def snapshot(self) -> X509Context:
        return self.context


class Pair:
    """A client's and a server's contexts that resume, unless told otherwise."""

    def __init__(self, client: TlsOptions = RESUMING, server: TlsOptions = RESUMING) -> None:
        self.clock = ManualClock()
        self.client_allows, self.server_allows = Switch(), Switch()
        self.client_source = Rotating(context_for(OURS, CLIENT))
        self.server_source = Rotating(context_for(OURS, SERVER))
        self._client = TlsContexts(
            self.client_source, self.client_allows, server_side=False, options=client, clock=self.clock
        )
        self._server = TlsContexts(
            self.server_source, self.server_allows, server_side=True, options=server, clock=self.clock
        )

    @property
    def sessions(self) -> Sessions:
        return self._client.current().sessions

    def engines(self, place: str | None = PLACE) -> tuple[TlsEngine, TlsEngine]:
        return TlsEngine(self._client.current(), session_key=place), TlsEngine(self._server.current(), port=80)

    def meet(self, place: str | None = PLACE) -> tuple[Ends, bool]:
        """Shake hands and let the server speak; how it ended, and whether the client took up a session."""
        client, server = self.engines(place)
        ends = shake(client, server)
        if ends == Ends():
            assert client.resumed == server.resumed
            client.feed(server.seal(b"welcome"))
            assert client.read() == b"welcome"
            client.keep_session()
        return ends, client.resumed


def test_every_connection_after_the_first_to_a_session_key_resumes() -> None:
    pair = Pair()
    assert [pair.meet() for _ in range(4)] == [(Ends(), False), (Ends(), True), (Ends(), True), (Ends(), True)]
    assert len(pair.sessions) == 1


def test_a_resumed_connection_knows_its_peer_and_carries_bytes_both_ways() -> None:
    pair = Pair()
    pair.meet()
    client, server = pair.engines()
    assert shake(client, server) == Ends()
    assert client.resumed
    assert client.peer is not None
    assert server.peer is not None
    assert (str(client.peer.spiffe_id), str(server.peer.spiffe_id)) == (SERVER, CLIENT)
    server.feed(client.seal(b"question"))
    assert server.read() == b"question"


@pytest.mark.parametrize("place", ["127.0.0.1:15007", None])
def test_a_session_belongs_to_one_session_key(place: str | None) -> None:
    pair = Pair()
    pair.meet()
    assert pair.meet(place) == (Ends(), False)


@pytest.mark.parametrize(
    ("client", "server"), [(RESUMING, TlsOptions()), (TlsOptions(), RESUMING)], ids=["the server", "the client"]
)
def test_resumption_needs_both_sides(client: TlsOptions, server: TlsOptions) -> None:
    pair = Pair(client, server)
    assert [pair.meet(), pair.meet()] == [(Ends(), False), (Ends(), False)]
    assert len(pair.sessions) == 0


def test_a_server_refuses_a_resumed_client_that_is_not_allowed_any_more() -> None:
    pair = Pair()
    pair.meet()
    pair.server_allows.on = False
    ends, _ = pair.meet()
    assert type(ends.server) is NotAuthorizedError
    assert str(ends.server) == "not any more"
    pair.server_allows.on = True
    assert pair.meet() == (Ends(), True)


def test_every_verdict_is_about_the_identity_and_the_port_that_is_asked_for_resumed_or_not() -> None:
    pair = Pair()
    assert [pair.meet()[1] for _ in range(2)] == [False, True]
    client, server = pair.engines()
    assert shake(client, server) == Ends()
    assert server.resumed
    before = len(pair.server_allows.asked)
    server.check_peer_again()
    assert len(pair.server_allows.asked) == before + 1
    assert set(pair.server_allows.asked) == {Target(SpiffeId.parse(SERVER), 80)}
    assert set(pair.client_allows.asked) == {Target(SpiffeId.parse(CLIENT), None, dialled=True)}


def test_a_client_refuses_a_resumed_server_that_is_not_allowed_any_more_and_forgets_the_session() -> None:
    pair = Pair()
    pair.meet()
    pair.client_allows.on = False
    ends, _ = pair.meet()
    assert type(ends.client) is NotAuthorizedError
    assert len(pair.sessions) == 0
    pair.client_allows.on = True
    assert [pair.meet(), pair.meet()] == [(Ends(), False), (Ends(), True)]


def test_an_expired_peer_does_not_resume() -> None:
    pair = Pair()
    pair.meet()
    pair.clock.advance(2 * 3600)
    ends, _ = pair.meet()
    assert type(ends.client) is ValidityError
    assert "expired at" in str(ends.client)
    assert "our clock says" in str(ends.client)


def test_a_new_generation_of_the_client_has_no_session_of_the_old_one() -> None:
    pair = Pair()
    pair.meet()
    pair.client_source.context = context_for(OURS, CLIENT, generation=2)
    assert len(pair.sessions) == 0
    assert [pair.meet(), pair.meet()] == [(Ends(), False), (Ends(), True)]


def test_a_new_generation_of_the_server_takes_no_ticket_of_the_old_one_and_the_session_is_replaced() -> None:
    pair = Pair()
    pair.meet()
    old = pair.sessions.get(PLACE)
    pair.server_source.context = context_for(OURS, SERVER, generation=2)
    assert pair.meet() == (Ends(), False)
    assert pair.sessions.get(PLACE) is not old
    assert pair.meet() == (Ends(), True)


def test_a_session_whose_certificate_was_not_verified_under_this_trust_is_refused() -> None:
    """OpenSSL resumes it, for its keys are this context's: what is missing is our own verdict."""
    pair = Pair()
    pair.meet()
    assert pair.meet() == (Ends(), True)
    pair._server.current()._verifier._above.clear()
    ends, _ = pair.meet()
    assert type(ends.server) is UntrustedPeerError
    assert str(ends.server) == (
        "the peer resumed a session, and its certificate was not verified under the present trust;"
        " a full handshake is required"
    )


def test_a_client_resumes_though_more_others_were_verified_since_than_are_remembered() -> None:
    pair = Pair()
    pair._server.current()._verifier._size = 1
    pair.meet()
    for other in ("spiffe://example.org/other", "spiffe://example.org/another"):
        passing = TlsEngine(context_of(context_for(OURS, other), server_side=False, options=RESUMING))
        assert shake(passing, TlsEngine(pair._server.current(), port=80)) == Ends()
    assert [pair.meet(), pair.meet()] == [(Ends(), True), (Ends(), True)]


def test_a_context_that_cannot_check_resumed_peers_refuses_a_resumed_session() -> None:
    class OnlyChains(GenerationContext):
        check_resumed_peer = None  # type: ignore[assignment]  # as a context of another kind, which has no such method

    snapshot = context_for(OURS, SERVER)
    clock = ManualClock()
    budget = LargeHandshakes(clock)
    server = OnlyChains.build(
        snapshot,
        Switch(),
        PeerVerifier(Trust(1, snapshot.bundles)),
        server_side=True,
        options=RESUMING,
        clock=clock,
        large=budget,
    )
    client = context_of(context_for(OURS, CLIENT), server_side=False, options=RESUMING)
    first = TlsEngine(client, session_key=PLACE)
    server_end = TlsEngine(server)
    assert shake(first, server_end) == Ends()
    first.feed(server_end.seal(b"x"))
    first.read()
    first.keep_session()
    refused = shake(TlsEngine(client, session_key=PLACE), TlsEngine(server)).server
    assert isinstance(refused, PeerError)
    assert str(refused) == "the peer resumed a session, and no chain came with it to verify"


def test_tls_1_2_resumes_and_is_verified_again_too() -> None:
    options = TlsOptions(minimum_version=ssl.TLSVersion.TLSv1_2, resumption=True)
    pair = Pair(options, options)
    pair._client.current().maximum_version = ssl.TLSVersion.TLSv1_2
    assert [pair.meet(), pair.meet()] == [(Ends(), False), (Ends(), True)]
    pair.server_allows.on = False
    assert type(pair.meet()[0].server) is NotAuthorizedError


def test_a_client_keeps_a_bounded_number_of_sessions_and_drops_the_oldest() -> None:
    pair = Pair()
    pair.meet("one")
    session = pair.sessions.get("one")
    assert session is not None
    kept = Sessions(size=2)
    for place in ("one", "two", "one", "three"):
        kept.keep(place, session)
    assert [place for place in ("one", "two", "three") if kept.get(place)] == ["one", "three"]
    assert repr(kept) == "<Sessions [2 of 2]>"
