"""Handshakes of the corpus: both versions, full and resumed, with and without a client certificate, refused."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from meshtls.wire.tls import Alert, fatal_alert
from tests.corpus.case import CLIENT_ID, SERVER_ID, Case, Made, Told
from tests.corpus.hellos import answer_to, hello_of_a_browser
from tests.corpus.sessions import bad_client, carried, contexts_of, made, spoken, whole
from tests.support.certs import ca
from tests.support.packets import ACK, RST, Talk
from tests.support.tls_wire import END, START, Flight, Wire, contexts, programs
from tests.support.waiting import until

__all__ = ["HANDSHAKES"]

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Change = Callable[[Path, ssl.SSLContext, ssl.SSLContext], None]


def agreed(version: int = 3, *, keys: bool = True, bundle: bool = False) -> Callable[[Path], Made]:
    """A session in which nothing goes wrong."""
    return lambda directory: made(directory, carried(whole(directory, version=version)), keys=keys, bundle=bundle)


def with_client(version: int = 3, *, asked: bool) -> Callable[[Path], Made]:
    """A client without a certificate."""

    def make(directory: Path) -> Made:
        wire = Wire(*contexts_of(directory, version=version, mutual=False, asked=asked))
        return made(directory, carried(spoken(wire)))

    return make


def changed(change: Change, version: int = 3, *, ciphers: str = "", bundle: bool = False) -> Callable[[Path], Made]:
    """A session of contexts in which something was changed; where it is refused, the server closes first."""

    def make(directory: Path) -> Made:
        client, server = contexts_of(directory, version=version, ciphers=ciphers)
        change(directory, client, server)
        return made(directory, carried(spoken(Wire(client, server)), server_first=True), bundle=bundle)

    return make


def resumed(version: int = 3) -> Callable[[Path], Made]:
    """The second of two sessions; only it is captured."""

    def make(directory: Path) -> Made:
        client, server = contexts_of(directory, version=version)
        first = Wire(client, server)
        spoken(first)
        return made(directory, carried(spoken(Wire(client, server, first.client.session))))

    return make


def _other_group(_: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    client.set_ecdh_curve("X25519")
    server.set_ecdh_curve("secp384r1")


def _retried(directory: Path) -> Made:
    """The client offers all its groups, and sends a share of another one than the server's."""
    client, server = contexts(directory, directory / "keys", mutual=True, version=3)
    server.set_ecdh_curve("secp384r1")
    return made(directory, carried(spoken(Wire(client, server))))


def _require(_: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    server.verify_mode = ssl.CERT_REQUIRED


def _foreign(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    issuer = ca(slot="foreign", name="foreign", not_before=START, not_after=END)
    bad_client(directory, client, CLIENT_ID, issuer=issuer)


def _expired(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    bad_client(directory, client, CLIENT_ID, not_after=datetime(2021, 1, 1, tzinfo=UTC))


def _not_yet(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    bad_client(directory, client, CLIENT_ID, not_before=datetime(2090, 1, 1, tzinfo=UTC))


def _no_id(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    bad_client(directory, client)


def _two_ids(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    bad_client(directory, client, CLIENT_ID, "spiffe://a.test/other")


def _alpn(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    client.set_alpn_protocols(["h2", "http/1.1"])
    server.set_alpn_protocols(["http/1.1"])


def _no_alpn(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    client.set_alpn_protocols(["h2"])
    server.set_alpn_protocols(["http/1.1"])


def _older_client(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2


def _other_suite(directory: Path, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    server.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")


def _nobody_trusted(directory: Path, version: int) -> Wire:
    """The client knows no CA."""
    client, server = contexts_of(directory, version=version)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.minimum_version, stranger.maximum_version = client.minimum_version, client.maximum_version
    stranger.check_hostname = False
    stranger.keylog_filename = str(directory / "keys")
    stranger.set_ecdh_curve("X25519" if version == 3 else "prime256v1")
    return Wire(stranger, server)


def server_refused(version: int = 3) -> Callable[[Path], Made]:
    """The client refuses the server's certificate."""
    return lambda directory: made(directory, carried(spoken(_nobody_trusted(directory, version))))


def answered_with(alert: Alert) -> Callable[[Path], Made]:
    """A server that answers the ClientHello with this alert, as Go's and nginx do for ALPN."""

    def make(directory: Path) -> Made:
        client, server = contexts_of(directory)
        client.set_alpn_protocols(["h2"])
        hello = whole_hello(client, server)
        return made(directory, carried([(Side.CLIENT, hello), (Side.SERVER, fatal_alert(alert))], server_first=True))

    return make


def whole_hello(client: ssl.SSLContext, server: ssl.SSLContext) -> bytes:
    """The ClientHello that this client sends."""
    wire = Wire(client, server)
    wire.shake()
    return wire.flights[0][1]


def _cut_hello(directory: Path) -> Made:
    hello = whole_hello(*contexts_of(directory))
    return made(directory, carried([(Side.CLIENT, hello[:100])]))


def _browser(directory: Path) -> Made:
    """A hello with GREASE and a post-quantum share, which OpenSSL answers; the client leaves."""
    _, server = contexts_of(directory, mutual=False, asked=False)
    hello = hello_of_a_browser("web.test")
    return made(directory, carried([(Side.CLIENT, hello), (Side.SERVER, answer_to(hello, server))]), keys=False)


def _grown(flights: Sequence[Flight], before: int) -> bool:
    return len(flights) > before


def _key_update(directory: Path) -> Made:
    """OpenSSL's own programs: ``ssl`` has no call for a KeyUpdate."""

    async def run() -> list[Flight]:
        options = ("-tls1_3", "-groups", "X25519")
        async with (
            programs(directory, directory / "keys", *options, "-Verify", "1") as there,
            there.client(*options, "-servername", "web.test") as client,
        ):
            both = ((client, there.server), (there.server, client))
            for updated in (False, True):
                for source, sink in both:
                    if updated:
                        before = len(there.flights)
                        await source.type(b"k\n")
                        await until(partial(_grown, there.flights, before))
                    text = b"hello again" if updated else b"hello"
                    await source.type(text + b"\n")
                    await sink.told(text + b"\n")
            return list(there.flights)

    return made(directory, carried(asyncio.run(run())))


def _unfinished(directory: Path) -> Made:
    """No close_notify: an answer that ends so may be cut short."""
    return made(directory, carried(whole(directory, close=False)))


def _reset(directory: Path) -> Made:
    talk = Talk()
    frames = talk.handshake() + [talk.send(side, data) for side, data in whole(directory, close=False)]
    return made(directory, [*frames, talk.client(flags=RST | ACK)])


_TOLD = Told()
_TLS_1_2 = replace(_TOLD, version="TLS 1.2", suite="TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", group="secp256r1")
#: With no ServerHello.
_NO_ANSWER = replace(
    _TOLD,
    version="",
    suite="",
    group="",
    mutual="unknown",
    resumed="unknown",
    complete=False,
    decrypted=False,
    ids=("", ""),
    alerts=(),
    requests=(),
    outcome=Outcome.HANDSHAKE_FAILED,
)
_CLIENT, _SERVER = "the client 10.0.0.1:40000", "the server 10.0.0.2:443"
_KNOWN_CLIENT, _KNOWN_SERVER = f"{_CLIENT} ({CLIENT_ID})", f"{_SERVER} ({SERVER_ID})"
_CLOSED_EARLY = f"{_CLIENT} closed the connection during the handshake, {{}}, without an alert"
_NOTHING_IN_COMMON = f": it found no cipher suite, group or signature scheme in common with {_CLIENT}"
_CLOCK = "the time of the capture is 2023-11-14T22:13:20Z"
_ITS = f"peer {CLIENT_ID}: its certificate abc123"
_NOT_CURRENT = f"the certificate of {_KNOWN_CLIENT} is expired or not yet valid by its clock"
_NOT_TRUSTED = "it does not trust the chain of {}"
_NOT_PROVEN = f": likely PEER_UNTRUSTED or POLICY_DENIED: {_NOT_TRUSTED}, or does not allow its identity"
_FOREIGN = (
    f"peer {CLIENT_ID}: no path to a root of the bundle of trust domain a.test (1 known, issuer CN=foreign): "
    "none of them is its issuer"
)
_NOT_AN_SVID = (
    f"the chain of {_CLIENT} does not verify by the bundle given: peer's certificate abc123 is no X509-SVID: "
    "wanted exactly one URI SAN, got {}"
)


def _server_said(alert: str, problem: str = "", known: str = _SERVER, told: Told = _NO_ANSWER) -> Told:
    """The server refused with this alert."""
    words = f"{known} sent the alert {alert}{problem}"
    return replace(told, alerts=(f"server {alert}",), problem=words, requests=())


def _client_refused(outcome: Outcome | None, alert: str, problem: str, told: Told = _TOLD) -> Told:
    """The server refused the client's certificate, as the bundle does where one is given."""
    refused = _server_said(alert, problem, _KNOWN_SERVER, told)
    return replace(refused, outcome=outcome, verified=(False, True) if "bundle given" in problem else (None, None))


def _server_refused(told: Told) -> Told:
    problem = f"{_CLIENT} sent the alert unknown_ca{_NOT_PROVEN.format(_KNOWN_SERVER)}"
    return replace(
        told,
        mutual="unknown",
        complete=False,
        ids=("", SERVER_ID),
        alerts=("client unknown_ca",),
        requests=(),
        outcome=None,
        problem=problem,
    )


HANDSHAKES: Mapping[str, Case] = {
    "TLS 1.3 of both": Case(agreed()),
    "TLS 1.3 without keys": Case(
        agreed(keys=False),
        replace(
            _TOLD,
            mutual="unknown",
            decrypted=False,
            ids=("", ""),
            alerts=("client encrypted", "server encrypted"),
            requests=(),
        ),
    ),
    "TLS 1.3 with a bundle": Case(agreed(bundle=True), replace(_TOLD, verified=(True, True))),
    "TLS 1.2 of both": Case(agreed(2), _TLS_1_2),
    "TLS 1.2 without keys": Case(
        agreed(2, keys=False),
        replace(_TLS_1_2, decrypted=False, alerts=("client encrypted", "server encrypted"), requests=()),
    ),
    "TLS 1.3 resumed": Case(resumed(), replace(_TOLD, mutual="unknown", resumed="yes", ids=("", ""))),
    "TLS 1.2 resumed": Case(resumed(2), replace(_TLS_1_2, group="", mutual="unknown", resumed="yes", ids=("", ""))),
    "HelloRetryRequest": Case(_retried, replace(_TOLD, group="secp384r1", retried=True)),
    "no group in common": Case(changed(_other_group), _server_said("handshake_failure", _NOTHING_IN_COMMON)),
    "client certificate not asked for": Case(
        with_client(asked=False), replace(_TOLD, mutual="no", ids=("", SERVER_ID))
    ),
    "client certificate asked for, answer empty": Case(
        with_client(asked=True), replace(_TOLD, mutual="no", ids=("", SERVER_ID))
    ),
    "TLS 1.2, client certificate not asked for": Case(
        with_client(2, asked=False), replace(_TLS_1_2, mutual="no", ids=("", SERVER_ID))
    ),
    "TLS 1.2, client certificate asked for, answer empty": Case(
        with_client(2, asked=True), replace(_TLS_1_2, mutual="no", ids=("", SERVER_ID))
    ),
    "client of a foreign CA": Case(
        changed(_foreign, bundle=True),
        _client_refused(
            Outcome.PEER_UNTRUSTED,
            "unknown_ca",
            f": {_NOT_TRUSTED.format(_KNOWN_CLIENT)}; by the bundle given: {_FOREIGN}",
        ),
    ),
    "TLS 1.2, client of a foreign CA": Case(
        changed(_foreign, 2),
        _client_refused(
            None,
            "unknown_ca",
            _NOT_PROVEN.format(_KNOWN_CLIENT),
            replace(_TLS_1_2, complete=False),
        ),
    ),
    "client certificate expired": Case(
        changed(_expired, bundle=True),
        _client_refused(
            Outcome.PEER_CERT_NOT_CURRENT,
            "certificate_expired",
            f": {_NOT_CURRENT}; by the bundle given: {_ITS} expired at 2021-01-01T00:00:00Z; {_CLOCK}",
        ),
    ),
    "client certificate not yet valid": Case(
        changed(_not_yet, bundle=True),
        _client_refused(
            Outcome.PEER_CERT_NOT_CURRENT,
            "bad_certificate",
            f": {_NOT_CURRENT}; by the bundle given: {_ITS} is not valid before 2090-01-01T00:00:00Z; {_CLOCK}",
        ),
    ),
    "client certificate without a SPIFFE ID": Case(
        changed(_no_id, bundle=True),
        replace(_TOLD, ids=("", SERVER_ID), verified=(False, True), problem=_NOT_AN_SVID.format(0)),
    ),
    "client certificate with two URIs": Case(
        changed(_two_ids, bundle=True),
        replace(_TOLD, ids=("", SERVER_ID), verified=(False, True), problem=_NOT_AN_SVID.format(2)),
    ),
    "server refused by the client": Case(server_refused(), _server_refused(_TOLD)),
    "TLS 1.2, server refused by the client": Case(
        server_refused(2), _server_refused(replace(_TLS_1_2, decrypted=False))
    ),
    "ALPN agreed": Case(changed(_alpn), replace(_TOLD, alpn="http/1.1", offered_alpn=("h2", "http/1.1"))),
    "no ALPN in common, and ignored": Case(changed(_no_alpn), replace(_TOLD, offered_alpn=("h2",))),
    "no ALPN in common, and refused": Case(
        answered_with(Alert.NO_APPLICATION_PROTOCOL),
        _server_said(
            "no_application_protocol",
            f": it speaks none of the protocols that {_CLIENT} offers",
            told=replace(_NO_ANSWER, offered_alpn=("h2",)),
        ),
    ),
    "no version in common": Case(
        changed(_older_client), _server_said("protocol_version", ": no TLS version in common")
    ),
    "no suite in common": Case(changed(_other_suite, 2), _server_said("handshake_failure", _NOTHING_IN_COMMON)),
    "cut within the ClientHello": Case(
        _cut_hello,
        replace(
            _NO_ANSWER,
            server_name="",
            outcome=Outcome.CLOSED_EARLY,
            problem=_CLOSED_EARLY.format("before a whole ClientHello"),
            troubles=("client, byte 0: the connection ends within this record",),
        ),
    ),
    "GREASE and a post-quantum share": Case(
        _browser,
        replace(
            _NO_ANSWER,
            version=_TOLD.version,
            suite=_TOLD.suite,
            group=_TOLD.group,
            resumed="no",
            offered_alpn=("h2", "http/1.1"),
            outcome=Outcome.CLOSED_EARLY,
            problem=_CLOSED_EARLY.format("after the server's ServerHello"),
        ),
    ),
    "KeyUpdate of both": Case(_key_update, replace(_TOLD, alerts=(), requests=())),
    "closed without close_notify": Case(_unfinished, replace(_TOLD, alerts=())),
    "reset": Case(
        _reset,
        replace(
            _TOLD,
            alerts=(),
            outcome=Outcome.RESET,
            problem=f"{_KNOWN_CLIENT} reset the connection",
            ends=("reset", "reset by the peer"),
        ),
    ),
}
