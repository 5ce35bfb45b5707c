"""What is told of a captured connection: OpenSSL's handshakes, refused ones, plaintext, and damage."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.capture.analysis import comparing
from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.comparing import Change, Conversations, Pair
from meshtls.capture.analysis.comparing import compared as pairs_of
from meshtls.capture.analysis.connection import Alert, Connection, End, Handshake, Peer, Request, as_json
from meshtls.capture.analysis.figures import Figures
from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from meshtls.wire.tls import Alert as TlsAlert
from meshtls.wire.tls import fatal_alert
from tests.support.certs import ca, key, leaf
from tests.support.packets import ACK, FIN, RST, SYN, Talk
from tests.support.tls_capture import REQUEST, RESPONSE, Tape, analyzed, shaken
from tests.support.tls_wire import END, START, Wire, contexts, written

CLIENT, SERVER = "10.0.0.1:40001", "10.0.0.2:443"
CLIENT_ID, SERVER_ID = "spiffe://a.test/client", "spiffe://a.test/web"


def one(directory: Path, wire: Wire, *, keys: bool = True, bundle: bool = False, close: bool = True) -> Connection:
    tape = Tape()
    tape.wire(wire, close=close)
    trust = directory / "web-P-256.ca" if bundle else None
    (found,) = analyzed(tape, directory / "keys" if keys else None, trust)
    return found


def compared(before: Iterable[Connection], after: Iterable[Connection]) -> list[Pair]:
    return list(pairs_of(Conversations(before), Conversations(after)))


def handshake(found: Connection) -> Handshake:
    assert found.handshake is not None
    return found.handshake


def flight_bytes(wire: Wire, side: Side) -> int:
    return sum(len(data) for of, data in wire.flights if of is side)


def test_a_decrypted_connection_of_tls_1_3_is_told_as_a_whole(tmp_path: Path) -> None:
    wire = shaken(tmp_path)
    found = one(tmp_path, wire, bundle=True)
    sent = {side: flight_bytes(wire, side) for side in Side}
    flights = {side: sum(of is side for of, _ in wire.flights) for side in Side}
    packets = {Side.CLIENT: flights[Side.CLIENT] + 4, Side.SERVER: flights[Side.SERVER] + 2}
    ends = {
        side: End(
            address=address,
            packets=packets[side],
            wire_bytes=sent[side] + 54 * packets[side],
            tcp_bytes=sent[side],
            tls_bytes=sent[side],
            application_bytes=len(said),
            retransmitted=0,
            out_of_order=0,
            lost_bytes=0,
            ending="closed",
            peer=Peer(identity, 2, True),
        )
        for side, address, said, identity in (
            (Side.CLIENT, CLIENT, REQUEST, CLIENT_ID),
            (Side.SERVER, SERVER, RESPONSE, SERVER_ID),
        )
    }
    useful = len(REQUEST) + len(RESPONSE)
    wire_bytes = sum(end.wire_bytes for end in ends.values())
    assert found == Connection(
        number=1,
        start_ns=1_700_000_000_000_000_000,
        duration_ms=float(len(wire.flights) + 5),
        client=ends[Side.CLIENT],
        server=ends[Side.SERVER],
        protocol="TLS",
        handshake=Handshake(
            version="TLS 1.3",
            suite="TLS_AES_256_GCM_SHA384",
            group=handshake(found).group,
            post_quantum=handshake(found).group.endswith("MLKEM768"),
            server_name="web.test",
            mutual="yes",
            mutual_likely="yes",
            mutual_reason="the client sent a certificate",
            resumed="no",
            complete=True,
            ms=2.0,
            round_trips=1,
            decrypted=True,
            state="CLOSED",
            legal=True,
        ),
        tcp_rtt_ms=2.0,
        first_data_ms=found.first_data_ms,
        overhead=(wire_bytes - useful) / useful,
        connection_id=wire.flights[0][1][11:19].hex(),
        alerts=found.alerts,
        requests=(Request("GET", "/pay?(12 bytes)", 200),),
        outcome=Outcome.OK,
    )
    assert [(alert.side, alert.name, alert.fatal) for alert in found.alerts] == [
        ("client", "close_notify", False),
        ("server", "close_notify", False),
    ]


def test_without_keys_tls_1_3_hides_who_it_was_and_lengths_tell_the_rest(tmp_path: Path) -> None:
    found = one(tmp_path, shaken(tmp_path), keys=False)
    assert (found.client.peer, found.server.peer, found.requests) == (None, None, ())
    assert (found.client.application_bytes, found.server.application_bytes) == (len(REQUEST), len(RESPONSE))
    shake = handshake(found)
    assert found.estimated
    assert shake.inferred
    assert (shake.mutual, shake.mutual_likely, shake.decrypted, shake.round_trips) == ("unknown", "yes", False, 1)
    assert (found.outcome, found.problem) == (Outcome.OK, "")


def test_data_in_the_packet_of_the_clients_finished_is_counted_and_the_tickets_after_it_are_not(tmp_path: Path) -> None:
    wire = shaken(tmp_path)
    hello, answer, finished, *rest = wire.flights
    tickets, request, response, *close = rest
    assert [side for side, _ in (finished, tickets, request)] == [Side.CLIENT, Side.SERVER, Side.CLIENT]
    wire.flights[:] = [hello, answer, (Side.CLIENT, finished[1] + request[1]), tickets, response, *close]
    found = one(tmp_path, wire, keys=False)
    assert (found.client.application_bytes, found.server.application_bytes) == (len(REQUEST), len(RESPONSE))


def test_a_packet_that_is_in_the_capture_twice_counts_once(tmp_path: Path) -> None:
    tape = Tape()
    tape.plaintext(REQUEST, RESPONSE)
    tape.frames.insert(4, tape.frames[3])
    (found,) = analyzed(tape)
    assert (found.client.duplicated, found.client.retransmitted, found.server.duplicated) == (1, 0, 0)
    assert found.client.packets == 4


def test_secrets_in_the_file_are_used(tmp_path: Path) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path))
    (found,) = analyzed(tape, secrets=(tmp_path / "keys").read_bytes())
    assert found.client.peer == Peer(CLIENT_ID, 2)


def test_tls_1_2_shows_identities_without_keys(tmp_path: Path) -> None:
    found = one(tmp_path, shaken(tmp_path, version=2), keys=False)
    assert (found.client.peer, found.server.peer) == (Peer(CLIENT_ID, 2), Peer(SERVER_ID, 2))
    assert (handshake(found).version, handshake(found).mutual, handshake(found).round_trips) == ("TLS 1.2", "yes", 2)
    assert (found.client.application_bytes, found.server.application_bytes) == (len(REQUEST), len(RESPONSE))


@pytest.mark.parametrize("server", ["", "secp384r1"])
def test_a_hello_retry_request_costs_a_round_trip(tmp_path: Path, server: str) -> None:
    shake = handshake(one(tmp_path, shaken(tmp_path, server=server)))
    assert (shake.retried, shake.round_trips, shake.complete) == ((True, 2, True) if server else (False, 1, True))
    assert not server or shake.group == server


def test_a_resumed_session_shows_no_certificates(tmp_path: Path) -> None:
    first = shaken(tmp_path)
    wire = Wire(first.client_context, first.server_context, first.client.session)
    assert not wire.shake()
    found = one(tmp_path, wire)
    assert (handshake(found).resumed, handshake(found).mutual) == ("yes", "unknown")
    assert handshake(found).mutual_reason == "the session is resumed: certificates were sent in an earlier connection"
    assert (found.client.peer, found.server.peer) == (None, None)


NONE = (
    "the server 10.0.0.2:443 (spiffe://a.test/web) sent the alert {alert}: the client 10.0.0.1:40001 presented no "
    "certificate"
)
REFUSED = "the server 10.0.0.2:443 (spiffe://a.test/web) sent the alert unknown_ca: likely"
UNTRUSTED = (
    f"{REFUSED} PEER_UNTRUSTED or POLICY_DENIED: it does not trust the chain of the client 10.0.0.1:40001 "
    "(spiffe://a.test/client), or does not allow its identity"
)
DENIED = (
    f"{REFUSED} POLICY_DENIED: it does not allow the identity of the client 10.0.0.1:40001 (spiffe://a.test/client), "
    "whose chain verifies by the bundle given"
)


@pytest.mark.parametrize(
    ("version", "mutual", "trusted", "outcome", "problem"),
    [
        (3, True, True, Outcome.OK, ""),
        (2, True, True, Outcome.OK, ""),
        (3, False, True, Outcome.NO_CLIENT_CERTIFICATE, NONE.format(alert="certificate_required")),
        (2, False, True, Outcome.NO_CLIENT_CERTIFICATE, NONE.format(alert="handshake_failure")),
        (3, True, False, None, UNTRUSTED),
        (2, True, False, None, UNTRUSTED),
    ],
)
def test_a_refused_client_is_told_with_the_reason(
    tmp_path: Path, version: int, mutual: bool, trusted: bool, outcome: Outcome | None, problem: str
) -> None:
    found = one(tmp_path, shaken(tmp_path, version=version, mutual=mutual, trusted=trusted))
    assert (found.outcome, found.problem, bool(found.advice)) == (outcome, problem, bool(problem))


ALLOW = "`allow:` of the server's sidecar has to name the client's; `meshtls policy explain` judges the same caller"
PEER = "`peer:` of the client's sidecar has to name the server's identity"


def test_unknown_ca_is_proven_only_by_a_chain_that_the_bundle_refuses(tmp_path: Path) -> None:
    """A sidecar sends unknown_ca also to an identity that its policy denies."""
    wire = shaken(tmp_path, trusted=False)
    foreign = tmp_path / "foreign.pem"
    foreign.write_text(_foreign("spiffe://a.test"), "ascii")
    tape = Tape()
    tape.wire(wire)
    (unknown,) = analyzed(tape, tmp_path / "keys")
    (denied,) = analyzed(tape, tmp_path / "keys", tmp_path / "web-P-256.ca")
    (untrusted,) = analyzed(tape, tmp_path / "keys", foreign)
    asked = f"`meshtls explain connection {unknown.connection_id} --sidecar FILE` has the refusing sidecar's own words"
    assert (unknown.outcome, unknown.problem) == (None, UNTRUSTED)
    assert unknown.advice == (
        "the server's bundle has to have the root of the client's chain: `meshtls bundle show` prints it, and --bundle "
        f"FILE verifies the chain here; if it does, {ALLOW}. {asked}"
    )
    assert (denied.outcome, denied.problem) == (None, DENIED)
    assert denied.advice == (
        f"if the server has the bundle given: {ALLOW}; `meshtls revoked` lists what is revoked. {asked}"
    )
    assert (untrusted.outcome, UNTRUSTED.partition(" likely")[0] in untrusted.problem) == (Outcome.PEER_UNTRUSTED, True)
    assert "(spiffe://a.test/client); by the bundle given: peer spiffe://a.test/client: no path" in untrusted.problem


def test_advice_is_for_the_side_that_refused(tmp_path: Path) -> None:
    wire = shaken(tmp_path)
    alert = fatal_alert(TlsAlert.UNKNOWN_CA)
    for side, wanted, other in ((Side.CLIENT, PEER, ALLOW), (Side.SERVER, ALLOW, PEER)):
        tape = Tape()
        talk = tape.talk()
        tape.frames += [*talk.handshake(), *(talk.send(of, data) for of, data in wire.flights[:2])]
        tape.frames += [talk.send(side, alert), *talk.close()]
        (found,) = analyzed(tape, tmp_path / "keys")
        assert (found.outcome, wanted in found.advice, other in found.advice) == (None, True, False)


def test_an_encrypted_refusal_is_told_and_what_would_show_it(tmp_path: Path) -> None:
    found = one(tmp_path, shaken(tmp_path, mutual=False), keys=False)
    assert found.outcome is None
    assert found.problem == (
        "the server 10.0.0.2:443 sent an encrypted record of the length of an alert 1.0 ms after the client's "
        "Finished, and no application data that can be told from session tickets: likely it refused the client, "
        "which likely presented no certificate; the keys (--keylog FILE) show it"
    )
    assert found.advice == (
        f"give the keys (--keylog FILE); `meshtls explain connection {found.connection_id} --sidecar FILE` has"
        " a sidecar's own words"
    )


def test_a_chain_of_another_ca_is_refused_by_the_bundle(tmp_path: Path) -> None:
    wire = shaken(tmp_path)
    tape = Tape()
    tape.wire(wire)
    other = tmp_path / "other"
    other.mkdir()
    own, foreign = tmp_path / "web-P-256.ca", other / "ca.pem"
    foreign.write_text(_foreign("spiffe://a.test"), "utf-8")
    (good,), (bad,) = analyzed(tape, tmp_path / "keys", own), analyzed(tape, tmp_path / "keys", foreign)
    assert good.client.peer == Peer(CLIENT_ID, 2, True)
    assert bad.client.peer is not None
    assert (bad.client.peer.verified, bad.client.peer.refused_as) == (False, Outcome.PEER_UNTRUSTED)
    assert bad.problem.startswith(
        "the chain of the client 10.0.0.1:40001 (spiffe://a.test/client) does not verify by the bundle given: "
    )


@pytest.mark.parametrize("domain", ["b.test", "a.test"])
@pytest.mark.parametrize("refused", [True, False])
def test_a_bundle_of_one_trust_domain_says_nothing_of_a_peer_of_another(
    tmp_path: Path, domain: str, refused: bool
) -> None:
    """But a peer of the same one, with another root, it refuses."""
    issuer = ca(slot="foreign", name="foreign", not_before=START, not_after=END)
    issued = leaf(issuer, f"spiffe://{domain}/db", own_key=key("db"), not_before=START, not_after=END)
    db = written(tmp_path, "db", issued, issuer)
    client, server = contexts(tmp_path, tmp_path / "keys", mutual=True, version=3)
    client.load_cert_chain(db.chain, db.key)
    if not refused:
        server.load_verify_locations(db.ca)
    wire = Wire(client, server)
    assert bool(wire.shake()) is refused
    if not refused:
        wire.send(Side.CLIENT, REQUEST)
        wire.send(Side.SERVER, RESPONSE)
        wire.close()
    tape = Tape()
    tape.wire(wire)
    (plain,) = analyzed(tape, tmp_path / "keys")
    (found,) = analyzed(tape, tmp_path / "keys", tmp_path / "web-P-256.ca")
    assert found.client.peer is not None
    assert found.server.peer is not None
    assert found.server.peer.verified
    if domain == "b.test":
        unverified = "no bundle of trust domain b.test was given: the authorities of the one given are of a.test"
        assert found.client.peer == Peer("spiffe://b.test/db", 1, unverified_because=unverified)
        hint = "; the trust domains differ, a.test and b.test: likely it has no bundle of the other's"
        assert plain.problem.endswith(hint) is refused
        assert found.problem == plain.problem.replace(hint, f"; {unverified}{hint}")
        assert (found.outcome, found.advice) == (plain.outcome, plain.advice)
        assert ("federate the trust domains" in found.advice) is refused
    else:
        assert (found.client.peer.verified, found.client.peer.refused_as) == (False, Outcome.PEER_UNTRUSTED)
        assert found.outcome is (Outcome.PEER_UNTRUSTED if refused else Outcome.OK)


UNNAMED = (
    "the bundle given may not be that of trust domain a.test: its authorities name no trust domain, and it verifies no "
    "chain of this connection"
)
OF_ANOTHER = "no bundle of trust domain a.test was given: the authorities of the one given are of b.test"


@pytest.mark.parametrize(
    ("names", "unverified"),
    [(("spiffe://a.test",), ""), ((), UNNAMED), (("spiffe://b.test",), OF_ANOTHER), (("https://a.test",), UNNAMED)],
)
@pytest.mark.parametrize("refused", [True, False])
def test_a_bundle_that_is_not_known_to_be_of_the_trust_domain_proves_nothing(
    tmp_path: Path, names: tuple[str, ...], unverified: str, refused: bool
) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path, trusted=not refused))
    (tmp_path / "foreign.pem").write_text(_foreign(*names), "ascii")
    (found,) = analyzed(tape, tmp_path / "keys", tmp_path / "foreign.pem")
    assert found.client.peer is not None
    assert found.client.peer.unverified_because == unverified
    if not unverified:
        assert (found.client.peer.verified, found.client.peer.refused_as) == (False, Outcome.PEER_UNTRUSTED)
        assert found.outcome is (Outcome.PEER_UNTRUSTED if refused else Outcome.OK)
        assert "by the bundle given: peer spiffe://a.test/client: no path" in found.problem
    else:
        assert found.client.peer == Peer(CLIENT_ID, 2, unverified_because=unverified)
        assert (found.outcome, found.problem) == ((None, f"{UNTRUSTED}; {unverified}") if refused else (Outcome.OK, ""))


def test_a_bundle_that_names_another_trust_domain_verifies_no_chain_of_this_one(tmp_path: Path) -> None:
    """Nor does a sidecar verify a peer by the bundle of a trust domain that is not the peer's."""
    wire = shaken(tmp_path)
    tape = Tape()
    tape.wire(wire)
    for name, verified in (("spiffe://a.test", True), ("spiffe://b.test", None)):
        named = ca(None, name, not_before=START, not_after=END)
        (tmp_path / "named.pem").write_bytes(named.certificate.public_bytes(Encoding.PEM))
        (found,) = analyzed(tape, tmp_path / "keys", tmp_path / "named.pem")
        assert found.client.peer is not None
        assert (found.client.peer.verified, found.outcome) == (verified, Outcome.OK)


def _foreign(*names: str) -> str:
    issuer = ca(None, *names, slot="foreign", name="foreign", own_key=key("foreign"))
    return issuer.certificate.public_bytes(Encoding.PEM).decode()


PLAIN = "the client 10.0.0.1:40001 sent plaintext that starts with 'GET /pay?(12 bytes) HTTP/1.1'"


@pytest.mark.parametrize(
    ("answer", "outcome", "problem"),
    [
        (RESPONSE, Outcome.OK, ""),
        (b"", None, f"{PLAIN}, and the server closed the connection without a byte: likely it wants TLS"),
        (
            fatal_alert(TlsAlert.UNEXPECTED_MESSAGE),
            Outcome.PLAINTEXT_REFUSED,
            f"{PLAIN}, and the server answered with the TLS alert unexpected_message",
        ),
    ],
)
def test_plaintext_is_quoted_without_its_query(answer: bytes, outcome: Outcome | None, problem: str) -> None:
    tape = Tape()
    tape.plaintext(REQUEST, answer)
    (found,) = analyzed(tape)
    assert (found.protocol, found.first_line) == ("HTTP/1.1", "GET /pay?(12 bytes) HTTP/1.1")
    assert (found.outcome, found.problem) == (outcome, problem)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"GET /callback?token=SECRET", "GET /callback?(12 bytes)"),  # cut off
        (b"GET http://bob:SECRET@web/ HTTP/1.1\r\nHost: web\r\n\r\n", "GET http://…@web/ HTTP/1.1"),
        (b"AUTH SECRET\r\n", "AUTH …"),
        (b"PING\r\n", "PING"),
    ],
)
def test_plaintext_is_quoted_without_secrets(sent: bytes, shown: str) -> None:
    tape = Tape()
    tape.plaintext(sent, b"")
    (found,) = analyzed(tape)
    assert found.first_line == shown
    assert "SECRET" not in found.problem


@pytest.mark.parametrize(
    ("flags", "outcome", "problem"),
    [
        (None, None, ""),
        (RST | ACK, Outcome.CONNECT_FAILED, "the server 10.0.0.2:443 refused the TCP connection"),
        (SYN | ACK, None, ""),
    ],
)
def test_a_connection_that_is_not_accepted_has_failed(flags: int | None, outcome: Outcome | None, problem: str) -> None:
    tape = Tape()
    talk = tape.talk()
    tape.frames.append(talk.client(flags=SYN))
    if flags is not None:
        tape.frames.append(talk.server(flags=flags))
    (found,) = analyzed(tape)
    assert (found.protocol, found.outcome, found.problem) == ("nothing", outcome, problem)


@pytest.mark.parametrize(("flags", "how"), [(FIN | ACK, "closed"), (RST | ACK, "reset")])
def test_a_handshake_that_ends_without_an_alert_has_failed(tmp_path: Path, flags: int, how: str) -> None:
    wire = shaken(tmp_path)
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), talk.client(wire.flights[0][1]), talk.server(flags=flags)]
    (found,) = analyzed(tape)
    problem = (
        f"the server 10.0.0.2:443 {how} the connection during the handshake, after the ClientHello, without an alert"
    )
    assert (found.outcome, found.problem) == (Outcome.HANDSHAKE_FAILED, problem)


def test_a_damaged_file_gives_what_it_holds_and_says_where_it_breaks(tmp_path: Path) -> None:

    tape = Tape()
    tape.wire(shaken(tmp_path))
    data = tape.pcapng()
    whole, cut = Analysis(io.BytesIO(data)), Analysis(io.BytesIO(data[:-10]))
    assert [len(list(whole)), len(list(cut))] == [1, 1]
    assert whole.error is None
    assert cut.error is not None
    assert (cut.packets, whole.packets) == (len(tape.frames) - 1, len(tape.frames))


def test_a_record_in_json_names_its_outcome(tmp_path: Path) -> None:
    record = as_json(one(tmp_path, shaken(tmp_path, mutual=False)))
    assert (record["outcome"], record["verdict"]) == ("NO_CLIENT_CERTIFICATE", "denied")
    assert record["outcome_words"] == "the peer presented no certificate"
    assert msgspec.json.decode(msgspec.json.encode(record))["number"] == 1


def test_figures_add_up_and_a_comparison_names_what_changed(tmp_path: Path) -> None:
    before, after = Tape(), Tape()
    before.wire(shaken(tmp_path, version=2))
    after.wire(shaken(tmp_path, version=3))
    after.plaintext(REQUEST, RESPONSE)
    old, new = analyzed(before, tmp_path / "keys"), analyzed(after, tmp_path / "keys")
    figures = Figures()
    for found in new:
        figures.add(found)
    assert (figures.connections, figures.most("protocol")) == (2, [("TLS", 1), ("HTTP/1.1", 1)])
    assert figures.application_bytes == 2 * (len(REQUEST) + len(RESPONSE))
    assert figures.handshake_ms is not None
    assert figures.handshake_ms.p50 == 2.0
    pairs = compared(old, new)
    named = (CLIENT_ID, f"{SERVER_ID} port 443", "web.test")
    assert [(one.conversation, one.before, one.after, one.matched_by) for one in pairs] == [
        (("10.0.0.1", SERVER, ""), 0, 1, ""),
        (named, 1, 1, "SPIFFE IDs"),
    ]
    assert Change("version", "TLS 1.2", "TLS 1.3") in pairs[1].changes
    assert Change("round_trips", 2.0, 1.0) in pairs[1].changes
    assert compared(old, old) == [Pair(named, 1, 1, (), "SPIFFE IDs")]
    hidden = analyzed(after)
    assert [(one.conversation, one.matched_by) for one in compared(old, hidden)] == [
        (("10.0.0.1", SERVER, ""), ""),
        (("10.0.0.1", SERVER, "web.test"), "addresses"),
    ]


def test_conversations_of_other_addresses_are_matched_by_their_identities(tmp_path: Path) -> None:
    first = shaken(tmp_path)
    resumed = Wire(first.client_context, first.server_context, first.client.session)
    assert not resumed.shake()
    before, after = Tape(), Tape()
    for tape, server in ((before, ("10.0.0.2", 443)), (after, ("10.9.9.9", 443))):
        for number, flights in enumerate((first.flights, resumed.flights)):
            talk = Talk(("10.0.0.1", 40001 + number), server)
            tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in flights), *talk.close()]
    keys = tmp_path / "keys"
    old, new = analyzed(before, keys), analyzed(after, keys)
    (pair,) = compared(old, new)
    assert (pair.conversation, pair.before, pair.after, pair.matched_by) == (
        (CLIENT_ID, f"{SERVER_ID} port 443", "web.test"),
        2,
        2,
        "SPIFFE IDs",
    )
    gone, come = compared(analyzed(before), analyzed(after))
    assert [(one.conversation[1], one.before, one.after, one.matched_by) for one in (gone, come)] == [
        ("10.0.0.2:443", 2, 0, ""),
        ("10.9.9.9:443", 0, 2, ""),
    ]


def test_a_problem_is_the_same_for_another_port_of_the_client(tmp_path: Path) -> None:
    wire = shaken(tmp_path, mutual=False)
    captures = []
    for port in (40001, 50001):
        tape = Tape()
        talk = Talk(("10.0.0.1", port), ("10.0.0.2", 443))
        tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in wire.flights), *talk.close()]
        captures.append(analyzed(tape, tmp_path / "keys"))
    (pair,) = compared(*captures)
    assert (pair.before, pair.after, pair.changes) == (1, 1, ())


def test_a_figure_has_eight_different_words_at_most(tmp_path: Path) -> None:
    found = one(tmp_path, shaken(tmp_path))
    many = [msgspec.structs.replace(found, problem=f"number {number}") for number in range(1000)]
    (pair,) = compared([found], many)
    assert pair.changes == (
        Change("problem", "", ", ".join([*(f"number {number}" for number in range(8)), "and others"])),
    )


def test_conversations_that_have_no_room_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MOST_CONVERSATIONS", 10)
    found = one(tmp_path, shaken(tmp_path), keys=False)

    def client(number: int) -> Connection:
        return msgspec.structs.replace(
            found, client=msgspec.structs.replace(found.client, address=f"10.1.0.{number}:1")
        )

    conversations = Conversations(client(number % 12) for number in range(24))
    assert conversations.left_out == 4
    assert [one.before for one in pairs_of(conversations, Conversations())] == [2] * 10


def test_an_alert_of_a_connection_has_its_time(tmp_path: Path) -> None:
    wire = shaken(tmp_path, mutual=False)
    (alert,) = one(tmp_path, wire).alerts
    assert alert == Alert("server", "certificate_required", float(2 + len(wire.flights)), fatal=True)
