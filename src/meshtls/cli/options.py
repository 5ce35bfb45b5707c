"""Option types and options that several verbs share."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from meshtls.address import Address
from meshtls.cli.output import Output
from meshtls.errors import RequestError
from meshtls.logs import LogFormat, formatter, logger
from meshtls.registration import Selector
from meshtls.scalars import LONGEST, duration, shown, whole_number
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.workload.address import ENVIRONMENT_VARIABLE, address_from, parse_address
from meshtls.workload.address import Address as WorkloadAddress

__all__ = [
    "ADDRESS",
    "DURATION",
    "MOMENT",
    "SELECTOR",
    "SPIFFE_ID",
    "TRUST_DOMAIN",
    "TTL",
    "ParsedOption",
    "RepeatedOptions",
    "choice_options",
    "config_option",
    "log_to_stderr",
    "output_option",
    "parsed_type",
    "workload_address",
    "workload_option",
]

#: Libraries that log what they do for each call, or as often as a caller likes.
_LIBRARIES = ("aiosqlite", "alembic", "asyncio", "grpclib", "hpack")

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ParsedOption(click.ParamType[T]):
    """A value parsed by a function that raises RequestError for an invalid one."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if not isinstance(value, str):
            parsed: T = value
            return parsed
        try:
            return self._parse(value)
        except RequestError as error:
            self.fail(str(error), param, ctx)


def parsed_type(name: str, parse: Callable[[str], T]) -> click.ParamType[T]:
    """The type of an option whose value is shown as ``name``; ``parse`` raises RequestError for an invalid one."""
    return ParsedOption(name, parse)


def _seconds(text: str) -> int:
    """Whole seconds: a plain number, or a duration such as 5m or 1h."""
    if text.isascii() and text.isdigit():
        return whole_number(0, int(LONGEST.total_seconds()))(text)
    seconds = duration(text).total_seconds()
    if not seconds.is_integer():
        raise RequestError(f"wanted whole seconds, got {shown(text)}")
    return int(seconds)


def _moment(text: str) -> datetime:
    """ISO 8601 with a UTC offset, or seconds since 1970."""
    wanted = f"wanted a time such as 2030-01-31T12:00:00Z, or seconds since 1970, got {shown(text)}"
    try:
        number = text.isascii() and text.isdigit()
        moment = datetime.fromtimestamp(int(text), UTC) if number else datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError(wanted) from error
    if moment.tzinfo is None:
        raise RequestError(wanted)
    return moment.astimezone(UTC)


ADDRESS = ParsedOption("HOST:PORT", Address.parse)
DURATION = ParsedOption("DURATION", duration)
TRUST_DOMAIN = ParsedOption("DOMAIN", TrustDomain.parse)
SPIFFE_ID = ParsedOption("ID", SpiffeId.parse)
SELECTOR = ParsedOption("TYPE:VALUE", Selector.parse)
TTL = ParsedOption("TTL", _seconds)
MOMENT = ParsedOption("TIME", _moment)


def config_option(command: F) -> F:
    """Add ``--config FILE``. The reader of the file reports whether it can be read."""
    return click.option("--config", required=True, type=click.Path(path_type=Path), help="The YAML file.")(command)


def output_option(command: F) -> F:
    """Add ``--output text|json``, passed to the verb as ``out``."""
    choice = click.option(
        "--output",
        "out",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        callback=lambda ctx, param, value: Output(as_json=value == "json"),
        help="Text for people, or JSON for programs.",
    )
    return choice(command)


def choice_options(command: F) -> F:
    """Add ``--spiffe-id`` and ``--hint``, passed as ``spiffe_id`` and ``hint``: which of several SVIDs to use."""
    for option in (
        click.option("--hint", help="Use the SVID with this hint instead of the default one."),
        click.option("--spiffe-id", type=SPIFFE_ID, help="Use the SVID of this identity instead of the default one."),
    ):
        command = option(command)
    return command


def workload_option(command: F) -> F:
    """Add ``--workload-socket``, a path or an address; None means that of the environment."""
    where = f"The Workload API's socket; the default is {ENVIRONMENT_VARIABLE}."
    return click.option("--workload-socket", metavar="PATH|ADDRESS", help=where)(command)


def log_to_stderr(level: int = logging.INFO, form: LogFormat = LogFormat.CONSOLE) -> None:
    """Log on standard error from this level on, one line per record. Standard output is for answers.

    The level is that of meshtls; of the libraries only warnings and errors are logged.
    """
    for name in _LIBRARIES:
        logger(name).setLevel(max(level, logging.WARNING))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level, handlers=[handler])


class RepeatedOptions(click.Command):
    """A command whose options with ``multiple`` take several values: ``--allow A B`` is ``--allow A --allow B``.

    click gives an option a fixed number of values. The command must have no arguments, which could be taken for values.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        several = [param for param in self.params if isinstance(param, click.Option) and param.multiple]
        names = frozenset(name for option in several for name in option.opts)
        repeated: list[str] = []
        # The option whose further values may follow. Its first value is its own, even if it begins with a dash.
        name, first = "", False
        for arg in args:
            if first:
                first = False
            elif arg.startswith("-"):
                name, joined, _ = arg.partition("=")
                first = not joined and name in names
            elif name in names:
                repeated.append(name)
            repeated.append(arg)
        return super().parse_args(ctx, repeated)


def workload_address(text: str | None) -> WorkloadAddress:
    """The Workload API's address: this path or address, or else that of the environment. Raises ConfigError."""
    if text is None or "://" in text or text.lower().startswith("unix:"):
        return address_from(text, os.environ)
    return parse_address(f"unix://{quote(str(Path(text).absolute()))}")
