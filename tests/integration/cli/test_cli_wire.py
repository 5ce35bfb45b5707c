"""``meshtls wire``: packets built, parsed and explained, from each source, as text, in colours, and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.cli.identity_site import tell

GOOD = "11 00 00 0d 00 00 00 2a 68 65 6c 6c 6f"
BAD = "21 80 00 0c 00 00 00 2a 68 65 6c 6c 6f"
FIELDS = """\
version   1
type      1
flags     0x00
length    13
id        42
payload   5 bytes: 'hello'
checksum  0xaaf6
"""
EXPLAINED = """\
0000  11 00 00 0d 00 00 00 2a 68 65 6c 6c 6f           .......*hello
      a- b- c---- d---------- e-------------
a  0000  version and type  0x11: version 1, type 1 (data)
b  0001  flags             0x00: none
c  0002  length            0x000d: 13 bytes: 8 of the header and 5 after it
d  0004  id                42
e  0008  payload           5 bytes: 'hello'

checksum of all 13 bytes (RFC 1071): 0xaaf6
[ok] valid
"""


def test_a_packet_is_built_from_its_fields() -> None:
    assert tell("wire", "build", "--id", "42", "--payload", "hello").out == f"{GOOD}\n"
    assert tell("wire", "build", "--id", "0x2a", "--payload-hex", "68656c6c6f").out == f"{GOOD}\n"
    assert tell("wire", "build", "--type", "17", "--flags", "0xff").out == "11 ff 00 08 00 00 00 00\n"
    built = tell("wire", "build", "--payload", "abc", "--id", "42", "--checksum", "--output", "json").json
    assert built == {"hex": "1101000d0000002a6162632a65", "length": 13, "checksum": 0xC53A}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--flags", "256"), 2, "flags: wanted 0 to 255, got 256"),
        (("--id", "-1"), 2, "id: wanted 0 to 4294967295, got -1"),
        (("--payload-hex", "0" * 131_056), 2, "bytes of payload: wanted 0 to 65527, got 65528"),
    ],
)
def test_a_value_that_does_not_fit_into_a_packet_is_refused(
    arguments: tuple[str, ...], code: int, message: str
) -> None:
    told = tell("wire", "build", *arguments)
    assert (told.code, told.out, told.err) == (code, "", f"meshtls: {message}\n")


def test_strict_mode_refuses_to_build_and_to_parse_what_is_invalid() -> None:
    told = tell("wire", "build", "--type", "2", "--strict", "--output", "json")
    message = "unknown type at offset 0: wanted 0 (control) or 1 (data), got 2"
    assert (told.code, told.out) == (1, "")
    assert told.err == f'{{"error": {{"kind": "UNKNOWN_TYPE", "message": "{message}", "exit_code": 1}}}}\n'
    told = tell("wire", "parse", "--strict", BAD)
    assert (told.code, told.out, told.err) == (1, "", "meshtls: unknown version at offset 0: wanted 1, got 2\n")
    assert tell("wire", "build", "--type", "0", "--strict").code == tell("wire", "parse", "--strict", GOOD).code == 0


def test_a_packet_is_parsed_from_each_source(tmp_path: Path) -> None:
    file = tmp_path / "packet.hex"
    file.write_text(f"0000000: {GOOD}  .......*hello\n")
    for told in (
        tell("wire", "parse", GOOD),
        tell("wire", "parse", *GOOD.split()),
        tell("wire", "parse", "--file", file),
        tell("wire", "parse", given=GOOD.encode()),
        tell("wire", "parse", "-", given=GOOD.encode()),
        tell("wire", "parse", "--file", "-", given=GOOD.encode()),
        tell("wire", "parse", "--skip", "2", f"ffff{GOOD}"),
    ):
        assert (told.code, told.out, told.err) == (0, FIELDS, "")
    assert tell("wire", "parse", GOOD, "--output", "json").json == {
        "version": 1, "type": 1, "flags": 0, "length": 13, "id": 42, "payload": "68656c6c6f", "checksum": 0xAAF6,
    }  # fmt: skip


def test_without_strict_mode_a_packet_is_read_as_the_lesson_reads_it() -> None:
    told = tell("wire", "parse", BAD, "--output", "json")
    assert (told.code, told.json["version"], told.json["length"], told.json["payload"]) == (0, 2, 12, "68656c6c")
    told = tell("wire", "parse", "1100")
    assert (told.code, told.err) == (1, "meshtls: short header at offset 2: wanted a header of 8 bytes, got 2\n")


def test_a_packet_is_explained_byte_by_byte() -> None:
    told = tell("wire", "explain", GOOD)
    assert (told.code, told.out.replace("✓", "[ok]"), told.err) == (0, EXPLAINED, "")


def test_an_invalid_packet_is_explained_with_every_mistake() -> None:
    told = tell("wire", "explain", BAD)
    assert told.code == 0
    assert told.out.replace("×", "[no]") == (
        "0000  21 80 00 0c 00 00 00 2a 68 65 6c 6c 6f           !......*hello\n"
        "      a- b- c---- d---------- e---------- f-\n"
        "a  0000  version and type  0x21: version 2, type 1 (data)\n"
        "         unknown version at offset 0: wanted 1, got 2\n"
        "b  0001  flags             0x80: reserved 0x80\n"
        "         reserved flags at offset 1: wanted no flag but 0x01, got 0x80\n"
        "c  0002  length            0x000c: 12 bytes: 8 of the header and 4 after it\n"
        "d  0004  id                42\n"
        "e  0008  payload           4 bytes: 'hell'\n"
        "f  000c  trailing bytes    1 byte: 6f\n"
        "         trailing bytes at offset 12: wanted 12 bytes, as the length says, got 13\n"
        "\n"
        "checksum of all 13 bytes (RFC 1071): 0x9a77\n"
        "[no] unknown version at offset 0: wanted 1, got 2\n"
        "[no] reserved flags at offset 1: wanted no flag but 0x01, got 0x80\n"
        "[no] trailing bytes at offset 12: wanted 12 bytes, as the length says, got 13\n"
    )
    assert tell("wire", "explain", "--strict", BAD).code == 1
    assert tell("wire", "explain", "--strict", GOOD).code == 0


def test_an_explanation_in_json_has_each_field_and_each_problem() -> None:
    told = tell("wire", "explain", "--output", "json", BAD).json
    assert [(one["name"], one["offset"], one["length"], one["value"]) for one in told["fields"]] == [
        ("version and type", 0, 1, 0x21),
        ("flags", 1, 1, 0x80),
        ("length", 2, 2, 12),
        ("id", 4, 4, 42),
        ("payload", 8, 4, "68656c6c"),
        ("trailing bytes", 12, 1, "6f"),
    ]
    assert told["problems"][0] == {
        "code": "unknown version", "offset": 0, "message": "unknown version at offset 0: wanted 1, got 2",
    }  # fmt: skip
    assert [one["code"] for one in told["problems"]] == ["unknown version", "reserved flags", "trailing bytes"]
    assert tell("wire", "explain", "--output", "json", GOOD).json["problems"] == []


def test_a_terminal_is_shown_colours_instead_of_letters_below_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = tell("wire", "explain", GOOD).out
    assert "\x1b[36m11\x1b[0m \x1b[32m00\x1b[0m \x1b[33m00\x1b[0m \x1b[33m0d\x1b[0m" in shown
    assert "a- b- c----" not in shown
    monkeypatch.setenv("NO_COLOR", "1")
    shown = tell("wire", "explain", GOOD).out
    assert "a- b- c----" in shown
    assert "\x1b[36m" not in shown


def test_control_characters_of_a_payload_never_reach_the_terminal() -> None:
    told = tell("wire", "explain", "11 00 00 0c 00 00 00 00 1b 5d 30 3b")
    assert "\x1b" not in told.out
    assert "4 bytes: 1b 5d 30 3b" in told.out


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("110",), b"", "hex, line 1: wanted pairs of hex digits, got '110'"),
        ((), b"11\nzz", "standard input: hex, line 2: wanted pairs of hex digits, got 'zz'"),
        (("--file", "/nowhere/packet"), b"", "/nowhere/packet: wanted a file to read: No such file or directory"),
        ((), b"\n\r\r\n\x1c", "standard input: wanted hex, got a capture file: read it with `meshtls capture analyze`"),
        (("--file", "/nowhere/packet", "11"), b"", "wanted the hex as arguments or --file, got both"),
    ],
)
def test_text_that_is_no_hex_is_refused(arguments: tuple[str, ...], given: bytes, message: str) -> None:
    told = tell("wire", "explain", *arguments, given=given)
    assert (told.code, told.out, told.err) == (2, "", f"meshtls: {message}\n")


ALERT = "15 03 03 00 02 02 28"


def test_a_record_of_tls_is_explained_byte_by_byte() -> None:
    told = tell("wire", "explain", ALERT)
    assert (told.code, told.out.replace("✓", "[ok]"), told.err) == (
        0,
        "0000  15 03 03 00 02 02 28                             ......(\n"
        "      a- b---- c---- d- e-\n"
        "   0000  record           alert\n"
        "a  0000    content type   0x15: alert\n"
        "b  0001    version        0x0303: TLS 1.2\n"
        "c  0003    length         2\n"
        "   0005    Alert          fatal handshake_failure\n"
        "d  0005      level        0x02: fatal\n"
        "e  0006      description  0x28: handshake_failure\n"
        "\n"
        "[ok] every field could be decoded\n",
        "",
    )


def test_the_bytes_are_read_as_what_they_are_said_to_be() -> None:
    names = [
        field["name"] for field in tell("wire", "explain", "--as", "packet", ALERT, "--output", "json").json["fields"]
    ]
    assert names == ["version and type", "flags", "length", "incomplete header"]
    key_update = tell("wire", "explain", "--as", "handshake", "18 00 00 01 01", "--output", "json").json
    assert (key_update["name"], key_update["problems"]) == ("KeyUpdate", [])
    cut = tell("wire", "explain", "--as", "tls", "--strict", "16 03 01 00 05 01", "--output", "json")
    assert cut.code == 1
    assert cut.json["problems"] == [{"code": "malformed", "offset": 0, "message": "undecoded: the record is not whole"}]
