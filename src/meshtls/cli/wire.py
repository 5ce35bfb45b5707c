"""``meshtls wire``: the lesson's packet built, parsed, and explained byte by byte; records of TLS explained."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import click

from meshtls.capture.files.opening import CAPTURES
from meshtls.cli.marks import Mark, mark_text
from meshtls.cli.options import ParsedOption, output_option
from meshtls.cli.output import Output, tell
from meshtls.cli.wire_dump import print_fields, record_of, value_text
from meshtls.errors import ConfigError, RequestError
from meshtls.printable import printable
from meshtls.scalars import shown
from meshtls.wire.frame import (
    FrameError,
    FrameFlag,
    build,
    build_strict,
    checksum,
    frame_fields,
    parse,
    parse_strict,
    problems_of,
)
from meshtls.wire.hex_text import MAX_TEXT, parse_hex
from meshtls.wire.tls.explained import begins_like_tls, tls_fields
from meshtls.wire.tls.fields import Field, masked
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import TLS_1_3

__all__ = ["wire"]

F = TypeVar("F", bound=Callable[..., object])


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise RequestError(f"wanted a number such as 10 or 0x0a, got {shown(text)}") from None


_STANDARD_INPUT = "-"
_NUMBER = ParsedOption("NUMBER", _number)
_HEX = ParsedOption("HEX", parse_hex)


def _hex_arguments(command: F) -> F:
    """The bytes to read: words on the command line, ``--file``, or standard input (``-``)."""
    words = click.argument("words", metavar="[HEX|-]...", nargs=-1)
    file = click.option("--file", type=click.Path(path_type=Path), help="A file with the hex or the dump.")
    skip = click.option(
        "--skip", type=click.IntRange(0), default=0, help="Leave out so many bytes before it, such as headers of IP."
    )
    return words(file(skip(command)))


def _bytes_of(words: Sequence[str], file: Path | None, skip: int) -> bytes:
    if words and file is not None:
        raise ConfigError("wanted the hex as arguments or --file, got both")
    text, source = " ".join(words), ""
    from_input = words == (_STANDARD_INPUT,) or file == Path(_STANDARD_INPUT)
    try:
        if from_input or (file is None and not words):
            source = "standard input: "
            text = sys.stdin.buffer.read(MAX_TEXT + 1).decode("latin-1")
        elif file is not None:
            source = f"{file}: "
            with file.open("rb") as opened:
                text = opened.read(MAX_TEXT + 1).decode("latin-1")
    except OSError as error:
        raise ConfigError(f"{source}wanted a file to read: {error.strerror}") from error
    if text.encode("latin-1", "replace").startswith(CAPTURES):
        raise ConfigError(f"{source}wanted hex, got a capture file: read it with `meshtls capture analyze`")
    try:
        return parse_hex(text)[skip:]
    except RequestError as error:
        raise ConfigError(f"{source}{error}") from error


@click.group()
def wire() -> None:
    """The packet of the lesson on wire formats, 8 bytes of header and a payload; and records of TLS.

    The bytes to read are hex: typed, or a dump of xxd, hexdump -C, tcpdump -x or Wireshark. They are taken from the
    command line, from --file, or from standard input (-).
    """


@wire.command("build")
@click.option("--type", "kind", type=_NUMBER, default="1", show_default=True, help="The lower four bits are used.")
@click.option("--flags", type=_NUMBER, default="0", show_default=True, help="0 to 255.")
@click.option("--id", "identifier", type=_NUMBER, default="0", show_default=True, help="0 to 4294967295.")
@click.option("--payload", metavar="TEXT", help="The payload as text, in UTF-8.")
@click.option("--payload-hex", "payload_hex", type=_HEX, help="The payload as hex.")
@click.option("--checksum", "summed", is_flag=True, help="Set flag 0x01, and append the checksum (strict mode).")
@click.option("--strict", is_flag=True, help="Refuse unknown types and flags.")
@output_option
def build_verb(
    kind: int,
    flags: int,
    identifier: int,
    payload: str | None,
    payload_hex: bytes | None,
    summed: bool,
    strict: bool,
    out: Output,
) -> int:
    """Build a packet, and print it as hex."""
    if payload is not None and payload_hex is not None:
        raise ConfigError("wanted --payload or --payload-hex, got both")
    content = payload_hex if payload_hex is not None else (payload or "").encode(errors="surrogateescape")
    try:
        if strict or summed:
            built = build_strict(kind, content, flags | FrameFlag.CHECKSUM * summed, identifier)
        else:
            built = build(kind, content, flags, identifier)
    except FrameError as error:
        return _refused(error, out)
    except struct.error as error:
        limits = (("flags", flags, 255), ("id", identifier, 0xFFFF_FFFF), ("bytes of payload", len(content), 65527))
        beyond = (f"{name}: wanted 0 to {most}, got {got}" for name, got, most in limits if not 0 <= got <= most)
        raise ConfigError("; ".join(beyond)) from error
    out.record({"hex": built.hex(), "length": len(built), "checksum": checksum(built)}, built.hex(" "))
    return 0


@wire.command("parse")
@_hex_arguments
@click.option("--strict", is_flag=True, help="Refuse a packet with an invalid field; exit code 1.")
@output_option
def parse_verb(words: tuple[str, ...], file: Path | None, skip: int, strict: bool, out: Output) -> int:
    """Print the fields of a packet.

    Without --strict it is read as the lesson's code reads it, which ignores what follows the length, and cuts a payload
    that is shorter than the length says.
    """
    data = _bytes_of(words, file, skip)
    try:
        frame = parse_strict(data) if strict else parse(data)
    except FrameError as error:
        return _refused(error, out)
    fields = frame._asdict() | {"payload": bytes(frame.payload).hex(), "checksum": checksum(data)}
    if out.as_json:
        out.record(fields)
        return 0
    words_of = frame._asdict() | {
        "flags": f"{frame.flags:#04x}",
        "payload": value_text(bytes(frame.payload)),
        "checksum": f"{checksum(data):#06x}",
    }
    tell(*(f"{name:<10}{printable(str(value))}" for name, value in words_of.items()))
    return 0


@wire.command()
@_hex_arguments
@click.option(
    "--as",
    "form",
    type=click.Choice(["packet", "tls", "handshake"]),
    help="What the bytes are: the packet, records of TLS, or one handshake message of TLS 1.3. By default, records if"
    " they begin like one, and otherwise the packet.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 for an invalid field.")
@output_option
def explain(words: tuple[str, ...], file: Path | None, skip: int, form: str | None, strict: bool, out: Output) -> int:
    """Print a hex dump in which each field is marked, what it means, and what of it is invalid.

    It reads the packet, and records of TLS that one side sent, with the handshake messages in them.

    On a terminal the fields have colours; elsewhere, and with NO_COLOR, letters in a line below the bytes.
    """
    data = _bytes_of(words, file, skip)
    explained = _EXPLAINED[form or ("tls" if begins_like_tls(data) else "packet")](data)
    if out.as_json:
        problems = [{"code": code, "offset": offset, "message": text} for code, offset, text in explained.problems]
        out.record(record_of(explained.tree) | dict(explained.more) | {"problems": problems})
    else:
        print_fields(masked(data, explained.tree), explained.tree)
        tell("", *explained.lines)
        failed = [f"{mark_text(Mark.FAILED)} {text}" for _, _, text in explained.problems]
        tell(*(failed or [f"{mark_text(Mark.PASSED)} {explained.fine}"]))
    return 1 if strict and explained.problems else 0


class _Explained(NamedTuple):
    """Bytes as fields. ``problems`` are codes, offsets and messages, and ``fine`` is said if there is none.

    ``lines`` and ``more`` are what else is told, as text and in JSON.
    """

    tree: Field
    problems: list[tuple[str, int, str]]
    fine: str
    lines: tuple[str, ...] = ()
    more: Mapping[str, object] = MappingProxyType({})


def _packet(data: bytes) -> _Explained:
    problems = [(one.code.value, one.offset, str(one)) for one in problems_of(data)]
    line = f"checksum of all {len(data)} bytes (RFC 1071): {checksum(data):#06x}"
    return _Explained(frame_fields(data), problems, "valid", (line,), {"checksum": checksum(data)})


def _tls(data: bytes) -> _Explained:
    return _decoded(tls_fields(data))


def _handshake(data: bytes) -> _Explained:
    return _decoded(decode_message(data[0] if data else 0, data, TLS_1_3))


def _decoded(tree: Field) -> _Explained:
    problems = [("malformed", one.offset, f"{one.name}: {one.error}") for one in tree.walk() if one.error]
    return _Explained(tree, problems, "every field could be decoded")


_EXPLAINED: Mapping[str, Callable[[bytes], _Explained]] = {"packet": _packet, "tls": _tls, "handshake": _handshake}


def _refused(error: FrameError, out: Output) -> int:
    """Its code is the kind in JSON."""
    out.error(error.code.name, str(error), 1)
    return 1
