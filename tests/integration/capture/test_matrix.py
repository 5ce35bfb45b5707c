"""Handshakes of every kind between nginx, OpenSSL, Envoy, curl and sidecars, captured while they happened: each field
that tshark prints as well is the same, and the verbs say who talked to whom, how it ended and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from meshtls.capture.events import AlertSeen, MessageSeen, RecordSeen
from meshtls.wire.tls import TLS_1_3
from tests.integration.capture.matrix_talks import CASES, FIRST_PORT, RUN_SECONDS, SIDECAR
from tests.integration.capture.network_captures import Delivered, delivered, trimmed, tshark
from tests.integration.capture.network_programs import require_programs
from tests.integration.capture.test_tls_fields import layers_of, messages_in, ours, records_in, theirs
from tests.integration.cli.identity_site import tell
from tests.integration.sidecar.mesh import A, B
from tests.support.own_network import in_own_network
from tests.support.two_networks import IN_NAMESPACES

pytestmark = pytest.mark.timeout(RUN_SECONDS + 200)

_TALKS = "tests.integration.capture.matrix_talks"
_WEB, _CLIENT = "spiffe://a.test/web", "spiffe://a.test/client"
_FOREIGN, _EXPIRED = "spiffe://a.test/foreign", "spiffe://a.test/expired"
#: A server, or a client, that has sent all and is gone resets what comes after it.
_FINE = {"OK", "RESET", None}
_NO_CERTIFICATE, _NOT_CURRENT = {"NO_CLIENT_CERTIFICATE"}, {"PEER_CERT_NOT_CURRENT"}
#: By unknown_ca, which a sidecar sends for a chain that it does not trust, and for an identity that it does not allow.
_REFUSED: Set[str | None] = {None}


class Told(NamedTuple):
    """What the analysis has to say of a case, with keys."""

    client: str | None
    server: str | None
    version: str
    mutual: str
    resumed: str
    outcomes: Set[str | None]


_EXPECTED = {
    "TLS 1.3 with nginx": Told(_CLIENT, _WEB, "TLS 1.3", "yes", "no", _FINE),
    "TLS 1.3 resumed with nginx": Told(None, None, "TLS 1.3", "unknown", "yes", _FINE),
    "TLS 1.2 with nginx": Told(_CLIENT, _WEB, "TLS 1.2", "yes", "no", _FINE),
    "TLS 1.2 resumed with nginx": Told(None, None, "TLS 1.2", "unknown", "yes", _FINE),
    "HelloRetryRequest of nginx": Told(_CLIENT, _WEB, "TLS 1.3", "yes", "no", _FINE),
    "curl with nginx": Told(_CLIENT, _WEB, "TLS 1.3", "yes", "no", _FINE),
    "an expired certificate of nginx": Told(None, _EXPIRED, "TLS 1.3", "unknown", "no", _NOT_CURRENT),
    "a CA that curl does not trust": Told(None, _WEB, "TLS 1.3", "unknown", "no", _REFUSED),
    "TLS 1.3 with OpenSSL": Told(_CLIENT, _WEB, "TLS 1.3", "yes", "no", _FINE),
    "TLS 1.2 with OpenSSL": Told(_CLIENT, _WEB, "TLS 1.2", "yes", "no", _FINE),
    "no certificate for OpenSSL, TLS 1.3": Told(None, _WEB, "TLS 1.3", "no", "no", _NO_CERTIFICATE),
    "no certificate for OpenSSL, TLS 1.2": Told(None, _WEB, "TLS 1.2", "no", "no", _NO_CERTIFICATE),
    "a certificate of another CA for OpenSSL": Told(_FOREIGN, _WEB, "TLS 1.3", "yes", "no", _REFUSED),
    "an expired certificate for OpenSSL": Told(_EXPIRED, _WEB, "TLS 1.3", "yes", "no", _NOT_CURRENT),
    "HTTP/2 with Envoy": Told(_CLIENT, _WEB, "TLS 1.3", "yes", "no", _FINE),
    "no certificate for Envoy": Told(None, _WEB, "TLS 1.3", "no", "no", _NO_CERTIFICATE),
    "a certificate of another CA for Envoy": Told(_FOREIGN, _WEB, "TLS 1.3", "yes", "no", _REFUSED),
    "between sidecars": Told(str(A), str(B), "TLS 1.3", "yes", "no", _FINE),
    "in a tunnel between sidecars": Told(str(A), str(B), "TLS 1.3", "yes", "no", _FINE),
    # OpenSSL's alert of a certificate that is refused is unknown_ca, whatever the reason.
    "denied by a sidecar": Told(str(A), str(B), "TLS 1.3", "yes", "no", _REFUSED),
    "a certificate of another CA for a sidecar": Told(_FOREIGN, str(B), "TLS 1.3", "yes", "no", _REFUSED),
    "no certificate for a sidecar": Told(None, str(B), "TLS 1.3", "no", "no", _NO_CERTIFICATE),
}
_NOT_TLS = {
    "plaintext on nginx's port of TLS",
    "plaintext on a sidecar's port",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_programs()
    directory = tmp_path_factory.mktemp("matrix")
    in_own_network(_TALKS, directory, prefix=IN_NAMESPACES, seconds=RUN_SECONDS)
    trimmed(directory / "server.pcap", (directory / "mark").read_bytes())
    return directory


def _found(site: Path) -> dict[str, Delivered]:
    """The connection of each case."""
    by_client = {one.flow.client.address.port: one for one in delivered(site / "server.pcap", site / "keys.log")}
    by_server = {one.port: one for one in by_client.values() if one.flow.client.address.port not in _LOCAL}
    return {
        case.name: by_client[FIRST_PORT + number] if case.by != "sidecar" else by_server[case.port]
        for number, case in enumerate(CASES)
    }


_LOCAL = range(FIRST_PORT, FIRST_PORT + len(CASES))


def test_tshark_has_the_same_fields_records_and_alerts_of_each_connection(site: Path) -> None:
    found = _found(site)
    options = [part for port in {case.port for case in CASES} for part in ("-d", f"tcp.port=={port},tls")]
    keys = ("-o", f"tls.keylog_file:{site / 'keys.log'}")
    text = tshark(site / "server.pcap", *options, *keys, "-T", "json", "--no-duplicate-keys", "-J", "tcp tls")
    packets = layers_of(text)
    compared = 0
    for name, one in found.items():
        if name in _NOT_TLS:
            continue
        version = one.tls.version or TLS_1_3
        for half in one.flow.halves:
            ends = [str(half.address.port), str(half.peer.address.port)]
            layers = [
                packet.get("tls")
                for packet in packets
                if [packet["tcp"]["tcp.srcport"], packet["tcp"]["tcp.dstport"]] == ends
            ]
            events = [event for event in one.tls.events if event.side is half.side]
            messages = [event for event in events if isinstance(event, MessageSeen)]
            assert [ours(event.data, version) for event in messages] == [
                theirs(message) for packet in layers for message in messages_in(packet)
            ], (name, half.side)
            records = [event for event in events if isinstance(event, RecordSeen)]
            assert [(_shown(event), event.length) for event in records] == [
                (kind, length) for packet in layers for kind, _, length in records_in(packet)
            ], (name, half.side)
            alerts = [event for event in events if isinstance(event, AlertSeen) and event.level >= 0]
            assert [(event.level, event.description) for event in alerts] == [
                alert for packet in layers for alert in _alerts_in(packet)
            ], (name, half.side)
            compared += len(messages) + len(records) + len(alerts)
    assert compared > 300


def _shown(event: RecordSeen) -> int:
    """The content type as tshark has it: of a record that was decrypted, that which was encrypted with the content."""
    return event.inner_type if event.decrypted else event.content_type


def _alerts_in(layers: Any) -> Iterator[tuple[int, int]]:
    if isinstance(layers, dict):
        if "tls.alert_message.desc" in layers:
            yield int(layers["tls.alert_message.level"]), int(layers["tls.alert_message.desc"])
        else:
            for inner in layers.values():
                yield from _alerts_in(inner)
    elif isinstance(layers, list):
        for inner in layers:
            yield from _alerts_in(inner)


def _records(site: Path, file: str, *options: str) -> dict[str, dict[str, Any]]:
    """What ``capture analyze`` says of each case."""
    told = tell("capture", "analyze", str(site / file), *options, "--output", "json")
    assert (told.code, told.err) == (0, "")
    ports = {name: str(one.flow.client.address) for name, one in _found(site).items()}
    records = {one["client"]["address"]: one for one in told.json["connections"]}
    return {name: records[address] for name, address in ports.items()}


def _said(record: dict[str, Any]) -> Told:
    ids = [end["peer"] and end["peer"]["spiffe_id"] for end in (record["client"], record["server"])]
    shake = record["handshake"]
    return Told(ids[0], ids[1], shake["version"], shake["mutual"], shake["resumed"], {record["outcome"]})


@pytest.mark.parametrize("name", _EXPECTED)
def test_analyze_tells_who_talked_to_whom_and_how_it_ended(site: Path, name: str) -> None:
    record, expected = _records(site, "server.pcap", "--keylog", str(site / "keys.log"))[name], _EXPECTED[name]
    said = _said(record)
    assert said._replace(outcomes=set()) == expected._replace(outcomes=set())
    assert said.outcomes <= expected.outcomes, record["problem"]


def test_every_case_has_an_expectation() -> None:
    assert {case.name for case in CASES} == {*_EXPECTED, *_NOT_TLS, "TLS on nginx's port of plaintext"}


def test_requests_are_told_by_their_path_and_without_the_query(site: Path) -> None:
    records = _records(site, "server.pcap", "--keylog", str(site / "keys.log"))
    assert [(one["method"], one["target"], one["status"]) for one in records["between sidecars"]["requests"]] == [
        ("GET", "/paid?(12 bytes)", 200)
    ]
    tunnel = records["in a tunnel between sidecars"]["requests"]
    assert [(one["method"], one["target"], one["status"]) for one in tunnel] == [
        ("CONNECT", "10.9.0.2:15008", 200),
        ("GET", "/paid?(12 bytes)", 200),
    ]
    assert [(one["method"], one["target"], one["status"]) for one in records["HTTP/2 with Envoy"]["requests"]] == [
        ("GET", "/body", 200)
    ]


def test_a_recording_needs_no_key_log_and_says_the_same(site: Path) -> None:
    recorded = json.loads((site / "record.ndjson").read_text().splitlines()[-1])
    assert (recorded["event"], recorded["dropped"]) == ("captured", 0)
    ours_now = _records(site, "recorded.pcapng")
    for name, record in _records(site, "server.pcap", "--keylog", str(site / "keys.log")).items():
        mine = ours_now[name]
        for part in ("protocol", "outcome", "problem", "alerts"):
            if part == "alerts":
                assert [one["name"] for one in mine[part]] == [one["name"] for one in record[part]]
            else:
                assert mine[part] == record[part], name
        for end in ("client", "server"):
            assert mine[end]["peer"] == record[end]["peer"]
            assert mine[end]["application_bytes"] == record[end]["application_bytes"]


def test_live_takes_the_keys_of_a_sidecar_by_its_name(site: Path) -> None:
    events = [json.loads(line) for line in (site / "live.ndjson").read_text().splitlines()]
    at = f"10.9.0.2:{SIDECAR}"
    ended = [one for one in events if one["event"] == "ended" and one["server"]["address"] == at]
    assert len(ended) == sum(case.port == SIDECAR for case in CASES)
    first = ended[0]
    assert (first["client"]["peer"]["spiffe_id"], first["server"]["peer"]["spiffe_id"]) == (str(A), str(B))
    assert [(one["target"], one["status"]) for one in first["requests"]] == [("/paid?(12 bytes)", 200)]
    assert [one["outcome"] for one in ended[1:3]] == [None, "NO_CLIENT_CERTIFICATE"]
    assert "sent plaintext that starts with 'GET /body HTTP/1.1', and the server closed" in ended[3]["problem"]


def test_explain_tells_why_a_call_was_denied(site: Path) -> None:
    record = _records(site, "server.pcap", "--keylog", str(site / "keys.log"))["denied by a sidecar"]
    told = tell(
        *("capture", "explain", str(site / "server.pcap"), "--keylog", str(site / "keys.log")),
        *("--connection", str(record["number"]), "--output", "json"),
    ).json
    client, server = record["client"]["address"], record["server"]["address"]
    assert told["problem"] == (
        f"the server {server} ({B}) sent the alert unknown_ca: likely PEER_UNTRUSTED or POLICY_DENIED: it does"
        f" not trust the chain of the client {client} ({A}), or does not allow its identity"
    )
    assert "`allow:` of the server's sidecar has to name the client's" in told["advice"]
    assert told["mutual_tls"]


def test_diff_of_a_capture_with_itself_has_nothing(site: Path) -> None:
    file = str(site / "server.pcap")
    told = tell("capture", "diff", file, file, "--keylog", str(site / "keys.log"))
    assert (told.code, told.err) == (0, "")
    assert "appeared" not in told.out
    assert "->" not in "".join(line for line in told.out.splitlines() if line.startswith("    "))


def test_stats_count_the_outcomes_of_the_connections(site: Path) -> None:
    told = tell("capture", "stats", str(site / "server.pcap"), "--keylog", str(site / "keys.log"), "--output", "json")
    assert (told.json["connections"], told.json["protocol"]) == (
        len(CASES),
        {"TLS": len(CASES) - len(_NOT_TLS), "HTTP/1.1": len(_NOT_TLS)},
    )
    assert told.json["outcome"]["NO_CLIENT_CERTIFICATE"] == 4
    assert told.json["version"] == {"TLS 1.3": 18, "TLS 1.2": 4}


def test_tshark_decrypts_the_recording_without_a_key_log(site: Path) -> None:
    text = tshark(
        site / "recorded.pcapng",
        "-d",
        f"tcp.port=={SIDECAR},tls",
        "-Y",
        "http",
        "-T",
        "fields",
        "-e",
        "http.request.uri",
    )
    assert "/paid?token=secret" in text.splitlines()
