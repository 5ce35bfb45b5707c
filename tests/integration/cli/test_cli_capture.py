"""``meshtls capture``: what its verbs print of captures, as text and as JSON; and the page that shows them."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.wire.side import Side
from meshtls.wire.tls import Alert, fatal_alert
from tests.integration.cli.identity_site import tell
from tests.integration.cli.tutorial import DOCS, follow_page
from tests.support.agent import short_directory
from tests.support.certs import ca
from tests.support.packets import ACK, FIN, RST, Talk, captured, pcap
from tests.support.page_captures import write_captures
from tests.support.tls_capture import REQUEST, RESPONSE, Tape, shaken
from tests.support.tls_wire import Wire, contexts

REFUSED = (
    "the server 10.0.0.2:443 (spiffe://a.test/web) sent the alert certificate_required: the client 10.0.0.1:40002 "
    "presented no certificate"
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a capture of three connections: fine, refused, plaintext; with its keys and its bundle."""
    write_captures(tmp_path)
    return tmp_path


def test_the_table_has_a_row_for_each_connection(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    told = tell("capture", "analyze", str(site / "mesh.pcapng"), "--keylog", str(site / "keys"))
    assert (told.code, told.err) == (0, "")
    head, *rows, problem, total = told.out.splitlines()
    assert head.split()[:8] == ["#", "client", "server", "protocol", "suite", "group", "mTLS", "resumed"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert [row.split()[-1] for row in rows] == ["OK", "NO_CLIENT_CERTIFICATE", "OK"]
    assert problem == f"#2 {REFUSED}"
    assert total.startswith("3 connections, ")
    assert [line for line in told.out.splitlines() if line != line.rstrip()] == []


def test_a_narrow_table_leaves_columns_out(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = tell("capture", "analyze", str(site / "mesh.pcapng"))
    head = told.out.splitlines()[0].split()
    assert head == ["#", "client", "server", "protocol", "mTLS", "ms", "bytes", "result"]


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_json_has_the_records(site: Path, form: str) -> None:
    told = tell("capture", "analyze", str(site / "mesh-with-keys.pcapng"), "--output", form)
    records = (
        json.loads(told.out)["connections"] if form == "json" else [json.loads(line) for line in told.out.splitlines()]
    )
    assert [(one["number"], one["protocol"], one["outcome"]) for one in records] == [
        (1, "TLS", "OK"),
        (2, "TLS", "NO_CLIENT_CERTIFICATE"),
        (3, "HTTP/1.1", "OK"),
    ]
    assert records[0]["client"]["peer"]["spiffe_id"] == "spiffe://a.test/client"
    assert records[0]["requests"][0]["target"] == "/pay?(12 bytes)"
    assert "secret" not in told.out


def test_a_capture_that_comes_by_a_pipe_has_its_lines_while_it_runs() -> None:
    talks = [Talk(client=("10.0.0.1", 40_000 + number)) for number in range(200)]
    whole = pcap(captured([frame for talk in talks for frame in (*talk.handshake(), *talk.close())]))
    argv = [sys.executable, "-m", "meshtls", "capture", "analyze", "-", "--output", "ndjson"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(whole)
        program.stdin.flush()
        readable, _, _ = select.select([program.stdout], [], [], 60)
        assert readable, "no line while the capture goes on"
        assert json.loads(program.stdout.readline())["number"] == 1
        program.stdin.close()
        assert len(program.stdout.read().splitlines()) == 199


def test_html_is_one_page_with_all_connections_of_all_files(site: Path) -> None:
    told = tell("capture", "analyze", *[str(site / "mesh-with-keys.pcapng")] * 2, "--output", "html")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("<!DOCTYPE html>\n")
    assert told.out.endswith("</html>\n")
    assert [told.out.count(f'<section id="c{number}">') for number in range(1, 8)] == [1, 1, 1, 1, 1, 1, 0]
    assert "secret" not in told.out


def test_html_of_one_detail_is_refused(site: Path) -> None:
    told = tell("capture", "analyze", str(site / "mesh.pcapng"), "--detail", "1", "--output", "html")
    words = "--detail: wanted --output text, json or ndjson; the HTML page has all connections"
    assert (told.code, told.err) == (1, f"meshtls: {words}\n")


def test_connections_of_several_files_count_on(site: Path) -> None:
    told = tell("capture", "analyze", *[str(site / "mesh.pcapng")] * 2, "--output", "json")
    assert [one["number"] for one in json.loads(told.out)["connections"]] == [1, 2, 3, 4, 5, 6]


def test_a_damaged_file_is_told_on_standard_error_and_its_connections_all_the_same(site: Path) -> None:
    name = str(site / "cut.pcapng")
    told = tell("capture", "analyze", name)
    assert told.code == 1
    assert told.err.startswith(f"meshtls: {name}: damaged at byte ")
    assert "packets were read before it" in told.err
    assert "sent the alert certificate_required" in told.out


def test_the_detail_begins_with_how_the_connection_ended(site: Path) -> None:
    told = tell("capture", "analyze", str(site / "mesh.pcapng"), "--keylog", str(site / "keys"), "--detail", "2")
    assert told.out.splitlines()[:6] == [
        "number                  2",
        "start                   2023-11-14T22:13:20+00:00",
        "verdict                 denied",
        "outcome                 NO_CLIENT_CERTIFICATE",
        "outcome words           the peer presented no certificate",
        f"problem                 {REFUSED}",
    ]
    told = tell("capture", "analyze", str(site / "mesh.pcapng"), "--detail", "2")
    alert = "  - side server, name encrypted, or a record of this length, ms "
    assert [line for line in told.out.splitlines() if line.startswith(alert)]


@pytest.mark.parametrize("output", ["text", "json"])
def test_the_detail_has_each_message_with_its_fields(site: Path, output: str) -> None:
    name = str(site / "mesh-with-keys.pcapng")
    told = tell("capture", "analyze", name, "--detail", "1", "--output", output)
    assert told.code == 0
    for wanted in ("CertificateVerify", "EncryptedExtensions", "subjectAltName", "cipher_suite"):
        assert wanted in told.out
    if output == "json":
        assert {one["kind"] for one in json.loads(told.out)["events"]} >= {"record", "message", "alert"}


def test_the_detail_as_ndjson_is_one_line(site: Path) -> None:
    told = tell("capture", "analyze", str(site / "mesh.pcapng"), "--detail", "1", "--output", "ndjson")
    [line] = told.out.splitlines()
    assert json.loads(line)["number"] == 1


@pytest.mark.parametrize("verb", ["analyze", "stats", "explain"])
def test_a_capture_without_connections_asks_for_the_interface_and_the_port(tmp_path: Path, verb: str) -> None:
    name = tmp_path / "none.pcapng"
    name.write_bytes(Tape().pcapng())
    told = tell("capture", verb, str(name))
    assert told.code == 0
    assert told.err == f"meshtls: {name}: no TCP connections in 0 packets: wrong interface or port?\n"
    assert "nothing went wrong" not in told.out
    name.write_bytes(Tape().pcapng()[:10])
    assert "wrong interface" not in tell("capture", verb, str(name)).err


def test_damage_beside_the_page_is_told_as_text(site: Path) -> None:
    told = tell("capture", "analyze", str(site / "cut.pcapng"), "--output", "html")
    assert told.err.startswith(f"meshtls: {site / 'cut.pcapng'}: damaged at byte ")


def test_a_connection_that_is_not_there_has_no_detail(site: Path) -> None:
    name = str(site / "mesh.pcapng")
    told = tell("capture", "analyze", name, "--detail", "4")
    assert (told.code, told.err) == (1, "meshtls: --detail 4: the capture has 3 connections\n")


def test_explain_tells_the_first_problem_and_what_mends_it(site: Path) -> None:
    name = str(site / "mesh.pcapng")
    told = tell("capture", "explain", name, "--keylog", str(site / "keys"), "--output", "json")
    record = told.json
    assert len(bytes.fromhex(record.pop("connection_id"))) == 8
    assert record == {
        "connection": 2,
        "client": "10.0.0.1:40002",
        "server": "10.0.0.2:443",
        "outcome": "NO_CLIENT_CERTIFICATE",
        "outcome_words": "the peer presented no certificate",
        "problem": REFUSED,
        "unknown_because": "",
        "advice": "call through a sidecar, which has an SVID; check it with `meshtls check --sidecar FILE`",
        "mutual_tls": "the client was asked for a certificate and sent none",
    }


def test_keys_of_another_run_are_told_at_the_end(site: Path) -> None:
    name, other = site / "mesh.pcapng", site / "other"
    lines = (site / "keys").read_text("ascii").splitlines()
    other.write_text("".join(f"{label} {'00' * 32} {secret}\n" for label, _, secret in map(str.split, lines[-1:])))
    told = tell("capture", "analyze", str(name), "--keylog", str(other))
    words = f"{name}: {other} has no secrets of 2 of 2 TLS connections: are they of this run?"
    assert (told.code, words in told.err) == (0, True)
    told = tell("capture", "analyze", str(name), "--keylog", str(site / "keys"))
    assert (told.code, told.err) == (0, "")


def test_explain_says_that_nothing_went_wrong(site: Path) -> None:
    told = tell("capture", "explain", str(site / "before.pcapng"))
    assert (told.code, told.out) == (0, "nothing went wrong in 1 connection\n")


def test_explain_tells_what_is_proven_before_what_is_likely(tmp_path: Path) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path, mutual=False))
    talk = tape.talk()
    refused = [*talk.handshake(), talk.client(REQUEST), talk.server(fatal_alert(Alert.UNEXPECTED_MESSAGE))]
    tape.frames += [*refused, *talk.close()]
    name = tmp_path / "both.pcapng"
    name.write_bytes(tape.pcapng())
    told = tell("capture", "explain", str(name), "--output", "json").json
    assert (told["connection"], told["outcome"]) == (2, "PLAINTEXT_REFUSED")
    told = tell("capture", "explain", str(name), "--connection", "1", "--output", "json").json
    assert (told["outcome"], told["problem"].partition(":")[0]) == ("", "the server 10.0.0.2")


@pytest.mark.parametrize(("called", "number"), [("127.0.0.1", 2), ("10.0.0.1", 2), ("10.0.0.9", 1)])
def test_explain_tells_the_call_of_a_sidecar_rather_than_that_of_its_app(
    tmp_path: Path, called: str, number: int
) -> None:
    """The sidecar, at this address, closes the plaintext connection since its own call failed."""
    app = Talk(("127.0.0.1", 50000), (called, 15002))
    tape = Tape()
    tape.frames += [*app.handshake(), app.client(REQUEST)]
    tape.wire(shaken(tmp_path, trusted=False))
    tape.frames += [app.server(flags=FIN | ACK), app.client(flags=FIN | ACK), app.server()]
    name = tmp_path / "both.pcapng"
    name.write_bytes(tape.pcapng((tmp_path / "keys").read_bytes()))
    told = tell("capture", "explain", str(name), "--output", "json").json
    assert (told["connection"], told["outcome"]) == (number, "")
    told = tell("capture", "explain", str(name), "--connection", "1", "--output", "json").json
    likely = "it wants TLS" if called != "127.0.0.1" else "it is a sidecar whose own call failed, or it wants TLS"
    assert told["problem"].endswith(f"closed the connection without a byte: likely {likely}")
    assert ("see its own call to the destination" in told["advice"]) is (called == "127.0.0.1")


def test_a_connection_whose_end_is_not_seen_is_no_failure(tmp_path: Path) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path), close=False)
    name = tmp_path / "open.pcapng"
    name.write_bytes(tape.pcapng((tmp_path / "keys").read_bytes()))
    why = "the connection was open when the capture ended"
    told = tell("capture", "explain", str(name))
    words = "nothing is seen to have gone wrong in 1 connection; its result is not known\n"
    assert (told.code, told.out) == (0, words)
    told = tell("capture", "explain", str(name), "--connection", "1", "--output", "json").json
    assert (told["problem"], told["unknown_because"]) == ("none", why)
    told = tell("capture", "analyze", str(name))
    assert told.out.splitlines()[-2] == "1 connection without a known result (#1): --detail N says why"
    told = tell("capture", "analyze", str(name), "--detail", "1")
    assert f"unknown because         {why}" in told.out.splitlines()
    told = tell("capture", "analyze", str(name), "--output", "html")
    assert f"Verdict: none. The capture does not prove how it ended: {why}." in told.out


@pytest.mark.parametrize(
    ("fine", "open_ones", "words"),
    [
        (1, 0, "nothing went wrong in 1 connection\n"),
        (2, 1, "nothing is seen to have gone wrong in 3 connections; the result of 1 of them is not known\n"),
        (1, 2, "nothing is seen to have gone wrong in 3 connections; the results of 2 of them are not known\n"),
        (0, 2, "nothing is seen to have gone wrong in 2 connections; none of their results is known\n"),
    ],
)
def test_explain_says_of_how_many_connections_the_result_is_not_known(
    tmp_path: Path, fine: int, open_ones: int, words: str
) -> None:
    tape = Tape()
    for number in range(fine + open_ones):
        tape.wire(shaken(tmp_path), close=number < fine)
    name = tmp_path / "some.pcapng"
    name.write_bytes(tape.pcapng((tmp_path / "keys").read_bytes()))
    told = tell("capture", "explain", str(name))
    assert (told.code, told.out) == (0, words)


def test_stats_without_keys_tell_likely_mutual_tls_as_the_table_does(site: Path) -> None:
    told = tell("capture", "stats", str(site / "mesh.pcapng"))
    assert "mutual                  likely yes: 1 (33.3 %), likely no: 1 (33.3 %)" in told.out.splitlines()
    told = tell("capture", "stats", str(site / "mesh.pcapng"), "--output", "json")
    assert told.json["mutual"] == {"likely yes": 1, "likely no": 1}


def test_stats_add_up(site: Path) -> None:
    told = tell("capture", "stats", str(site / "mesh-with-keys.pcapng"), "--output", "json").json
    assert (told["connections"], told["version"], told["mutual"]) == (3, {"TLS 1.3": 2}, {"yes": 1, "no": 1})
    assert told["outcome"] == {"OK": 2, "NO_CLIENT_CERTIFICATE": 1}
    assert told["handshake_ms"]["handshakes"] == 2


def test_stats_as_text_have_exact_shares_and_a_line_for_each_talker(tmp_path: Path) -> None:
    tape = Tape()
    for _ in range(2):
        tape.wire(shaken(tmp_path))
    talk = Talk(client=("10.0.0.7", 40000))
    tape.frames += [*talk.handshake(), talk.client(REQUEST), talk.server(RESPONSE), *talk.close()]
    (tmp_path / "three.pcapng").write_bytes(tape.pcapng())
    told = tell("capture", "stats", str(tmp_path / "three.pcapng"))
    lines = told.out.splitlines()
    assert "protocol                TLS: 2 (66.7 %), HTTP/1.1: 1 (33.3 %)" in lines
    assert [re.sub("[0-9]{1,20} bytes$", "N bytes", line) for line in lines[-2:]] == [
        "top talkers             10.0.0.1 -> 10.0.0.2:443 N bytes",
        "                        10.0.0.7 -> 10.0.0.2:443 N bytes",
    ]


def sent(directory: Path, *answers: bytes) -> Path:
    """A capture of one connection of TLS 1.3 for each answer, without keys."""
    tape = Tape()
    for answer in answers:
        wire = Wire(*contexts(directory, directory / "keys", mutual=True, version=3))
        assert not wire.shake()
        wire.send(Side.CLIENT, REQUEST)
        wire.send(Side.SERVER, answer)
        wire.close()
        tape.wire(wire)
    file = directory / f"{sum(map(len, answers))}.pcapng"
    file.write_bytes(tape.pcapng())
    return file


def test_sums_and_means_of_estimates_have_a_mark(tmp_path: Path) -> None:
    before, after, keys = sent(tmp_path, RESPONSE), sent(tmp_path, RESPONSE, RESPONSE * 3), tmp_path / "keys"
    count = 2 * len(REQUEST) + 4 * len(RESPONSE)
    for options, mark in ((), "~"), (("--keylog", str(keys)), ""):
        told = tell("capture", "stats", str(after), *options)
        figures = {line[:24].strip(): line[24:] for line in told.out.splitlines()}
        record = tell("capture", "stats", str(after), *options, "--output", "json").json
        assert figures["application bytes"] == f"{mark}{count}"
        assert figures["overhead"] == f"{mark}{record['overhead']:.3f} bytes for each useful byte"
        assert (record["application_bytes"], record["estimated"], record["at_most"]) == (count, bool(mark), False)
        page = tell("capture", "analyze", str(after), *options, "--output", "html").out
        assert re.search(rf"bytes of applications</th>\s*<td[^>]*>{mark}{count}</td>", page)
        lines = tell("capture", "diff", str(before), str(after), *options).out.splitlines()
        mean = f"{mark}{len(REQUEST) + len(RESPONSE)}.0 -> {mark}{count / 2}"
        assert f"    application_bytes  {mean}" in lines
        [pair] = tell("capture", "diff", str(before), str(after), *options, "--output", "json").json["conversations"]
        assert pair["changes"]["application_bytes"] == {
            "before": len(REQUEST) + len(RESPONSE),
            "after": count / 2,
            "estimated": {"before": bool(mark), "after": bool(mark)},
        }
        assert "estimated" not in pair["changes"]["wire_bytes"]


def test_each_verb_reports_segments_with_other_bytes_and_those_that_no_receiver_accepts(tmp_path: Path) -> None:
    talk = Talk()
    frames = [*talk.handshake(), talk.client(REQUEST), talk.client(b"PUT", seq=1001), talk.server(flags=RST, seq=42)]
    file = tmp_path / "forged.pcap"
    file.write_bytes(pcap(captured([*frames, talk.server(RESPONSE), *talk.close()])))
    conflict = "1 segment was sent again with other bytes than before, of which the first count"
    ignored = "1 segment was ignored, which the receiver can't have accepted"
    table = tell("capture", "analyze", str(file)).out.splitlines()
    assert [line.partition(":")[0] for line in table if line.startswith("#1")] == [f"#1 {conflict}", f"#1 {ignored}"]
    assert table[1].split()[-1] == "OK"
    totals = tell("capture", "stats", str(file))
    notes = [line.removeprefix("meshtls: ").partition(":")[0] for line in totals.err.splitlines()]
    assert notes == [conflict, ignored]
    assert [line.split() for line in totals.out.splitlines() if line.startswith(("conflicts", "strange"))] == [
        ["conflicts", "1"],
        ["strange", "1"],
    ]
    assert json.loads(tell("capture", "analyze", str(file), "--output", "ndjson").out)["client"]["conflicts"] == 1
    detail = [line.split() for line in tell("capture", "analyze", str(file), "--detail", "1").out.splitlines()]
    assert [line for line in detail if line[:1] in (["conflicts"], ["strange"])] == [
        ["conflicts", "1"],
        ["strange", "0"],
        ["conflicts", "0"],
        ["strange", "1"],
    ]


def test_explain_as_text_has_a_space_after_each_label(tmp_path: Path) -> None:
    tape = Tape()
    for _ in range(2):
        tape.wire(shaken(tmp_path, mutual=False))
    (tmp_path / "two.pcapng").write_bytes(tape.pcapng((tmp_path / "keys").read_bytes()))
    told = tell("capture", "explain", str(tmp_path / "two.pcapng"))
    assert told.out.splitlines()[-1] == "connections with problems 2"


def test_chains_of_trust_domains_whose_bundle_was_not_given_are_told(site: Path) -> None:
    other = ca(None, "spiffe://b.test", slot="foreign", name="foreign")
    (site / "other.pem").write_bytes(other.certificate.public_bytes(Encoding.PEM))
    file = str(site / "mesh-with-keys.pcapng")
    good, bad = (tell("capture", "stats", file, "--bundle", str(site / name)) for name in ("bundle.pem", "other.pem"))
    assert (good.code, good.err, bad.code) == (0, "", 0)
    assert bad.err == (
        f"meshtls: {file}: 3 chains are not verified; the first: no bundle of trust domain a.test was given: the"
        " authorities of the one given are of b.test\n"
    )


def test_a_file_that_is_not_there_and_one_that_is_no_capture_are_refused(site: Path) -> None:
    missing = str(site / "nothing.pcap")
    told = tell("capture", "stats", missing)
    assert (told.code, told.err) == (
        2,
        f"meshtls: {missing}: wanted a capture file to read: No such file or directory\n",
    )
    other = str(site / "bundle.pem")
    told = tell("capture", "stats", other)
    assert told.code == 1
    assert told.err.startswith(f"meshtls: {other}: damaged at byte 0: wanted a pcap or pcapng file, got ")


def test_the_page_shows_what_the_verbs_print() -> None:
    with short_directory() as directory:
        write_captures(directory)
        follow_page((DOCS / "captures.md").read_text("utf-8"), directory, {})


@pytest.mark.parametrize("guessed", [True, False])
def test_ends_that_are_guessed_by_the_ports_are_told_as_such(guessed: bool, tmp_path: Path) -> None:
    tape = Tape()
    tape.plaintext(b"\0\x01binary", b"\0\x02binary")
    if guessed:
        del tape.frames[:3]
    name = tmp_path / "middle.pcapng"
    name.write_bytes(tape.pcapng())
    lines = tell("capture", "analyze", str(name)).out.splitlines()
    words = "1 connection whose ends are guessed by the ports (#1): client and server may be the other way round"
    assert (words in lines) is guessed
    told = tell("capture", "explain", str(name), "--connection", "1", "--output", "json").json
    assert ("roles" in told) is guessed
    page = tell("capture", "analyze", str(name), "--output", "html").out
    assert ("guessed by the ports" in page) is guessed
