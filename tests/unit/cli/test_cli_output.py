"""``--output json``: every verb has it, and what went wrong is JSON, too."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import pytest
from rich.text import Text

from meshtls.cli.main import cli, main
from meshtls.cli.output import JsonLines, Output, Terminal, tell, wants_json

# Each with the reason.
WITHOUT = {
    "node": "its protocol is JSON, a line each, and it has no other form",
}


def leaves(group: click.Group, ctx: click.Context, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, ctx, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_every_verb_has_the_option_but_those_with_a_reason() -> None:
    verbs = dict(leaves(cli, click.Context(cli)))
    lacking = {name for name, command in verbs.items() if not any("--output" in param.opts for param in command.params)}

    assert len(verbs) > 30
    assert lacking == set(WITHOUT)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("fetch", "jwt", "--output", "json"), "MissingParameter", "Missing option '--audience'."),
        (("fetch", "--output=json", "dance"), "NoSuchOption", "No such option"),
        (
            ("up", "--output", "json", "--svid-ttl", "5x"),
            "BadParameter",
            "Invalid value for '--svid-ttl': wanted a time",
        ),
        (
            ("sidecar", "validate", "--config", "/none.yaml", "--output", "json"),
            "ConfigError",
            "/none.yaml: wanted a configuration file to read: ",
        ),
        (
            ("capture", "analyze", "/none.pcap", "--output", "ndjson"),
            "ConfigError",
            "/none.pcap: wanted a capture file to read: ",
        ),
        (
            ("capture", "analyze", "--output=ndjson", "--keylog", "/none", "/none.pcap"),
            "ConfigError",
            "--keylog /none: wanted a file to read: ",
        ),
        (("capture", "analyze", "--output", "ndjson"), "MissingParameter", "Missing argument 'FILE|-...'."),
    ],
)
def test_a_failure_is_one_line_of_json(
    arguments: tuple[str, ...], kind: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    error = json.loads(said.err)["error"]
    assert (error["kind"], error["exit_code"]) == (kind, 2)
    assert error["message"].startswith(message)


def test_an_error_without_output_json_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sidecar", "validate", "--config", "/none.yaml"])

    assert capsys.readouterr().err.startswith("meshtls: /none.yaml: wanted a configuration file to read: ")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("up", False),
        ("up --output json", True),
        ("up --output=json --once", True),
        ("up --output json --output text", False),
        ("capture analyze a.pcap --output ndjson", True),
        ("capture analyze a.pcap --output=ndjson", True),
        ("capture analyze a.pcap --output html", False),
        ("up --output", False),
        ("up -- --output json", False),
        ("", False),
    ],
)
def test_the_kind_of_a_message_is_seen_before_it_is_parsed(line: str, wanted: bool) -> None:
    assert wants_json(line.split()) is wanted


HOSTILE = "web\x1b[2J\x9b\u202e\x7f\nmeshtls: all is well"
ESCAPED = r"web\x1b[2J\x9b\u202e\x7f\nmeshtls: all is well"


def test_a_field_is_one_line_of_printable_characters(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=False)
    out.record({"hint": HOSTILE})
    out.records("entries", [{"selectors": [f"unix:path:/{HOSTILE}"]}])
    assert capsys.readouterr().out == f"{'hint':<24}{ESCAPED}\n{'selectors':<24}unix:path:/{ESCAPED}\n"


def test_each_reported_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(HOSTILE, "another")
    Output(as_json=False).event({}, HOSTILE)
    assert capsys.readouterr().out == f"{ESCAPED}\nanother\n{ESCAPED}\n"


def test_further_lines_of_an_error_and_a_notice_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=False)
    out.error("ConfigError", HOSTILE, 2)
    out.notice(HOSTILE)
    told = "meshtls: web\\x1b[2J\\x9b\\u202e\\x7f\n  meshtls: all is well\n"
    assert capsys.readouterr().err == told * 2


def test_json_is_printable_and_gives_the_value_back(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=True)
    out.record({"hint": HOSTILE})
    out.event({"hint": HOSTILE}, "")
    out.error("ConfigError", HOSTILE, 2)
    said = capsys.readouterr()
    assert all(line.isprintable() for line in (said.out + said.err).split("\n"))
    document, _, event = said.out.rstrip("\n").rpartition("\n")
    assert json.loads(document) == json.loads(event) == {"hint": HOSTILE}
    assert json.loads(said.err)["error"]["message"] == HOSTILE


def test_a_terminal_gets_no_controls_but_those_of_its_styles(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(force_terminal=True, color_system="standard", width=200).print(Text(HOSTILE, style="bold"))
    printed = capsys.readouterr().out
    assert printed.replace("\x1b[1m", "").replace("\x1b[0m", "") == (
        "web\\x1b[2J\\x9b\\u202e\\x7f\nmeshtls: all is well\n"
    )
    assert "\x1b[1m" in printed


def test_the_command_line_is_quoted_in_printable_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fetch", HOSTILE])
    assert capsys.readouterr().err.endswith(f"\n\nError: No such command '{ESCAPED}'.\n")


def test_lines_are_printed_each_at_once_or_in_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonLines(at_once=True) as lines:
        lines.tell({"a": 1})
        assert capsys.readouterr().out == '{"a":1}\n'
    with JsonLines(at_once=False) as lines:
        lines.tell({"a": 1})
        lines.tell({"b": "\x1b\u202e"})
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == '{"a":1}\n{"b":"\\u001b\\u202e"}\n'


def test_a_block_is_printed_once_it_is_large(capsys: pytest.CaptureFixture[str]) -> None:
    line = "x" * 1000
    with JsonLines(at_once=False) as lines:
        for _ in range(100):
            lines.tell(line)
        printed = capsys.readouterr().out
        assert 1 < printed.count("\n") < 100
    assert printed + capsys.readouterr().out == f'"{line}"\n' * 100


def test_lines_before_an_error_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        with JsonLines(at_once=False) as lines:
            lines.tell("first")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        broken()
    assert capsys.readouterr().out == '"first"\n'
