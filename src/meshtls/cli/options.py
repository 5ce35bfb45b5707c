"""Option types and options that several verbs share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from meshtls.cli.output import Output
from meshtls.errors import RequestError
from meshtls.logs import LineFormatter, logger
from meshtls.registration import Selector
from meshtls.scalars import LONGEST, duration, shown, whole_number
from meshtls.sidecar.address import Address
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.workload.address import ENVIRONMENT_VARIABLE

__all__ = [
    "ADDRESS",
    "DURATION",
    "MOMENT",
    "SELECTOR",
    "SPIFFE_ID",
    "TRUST_DOMAIN",
    "TTL",
    "choice_options",
    "config_option",
    "log_to_stderr",
    "output_option",
    "workload_option",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class _Parsed(click.ParamType[T]):
    """A value read by a function that raises RequestError for what won't do."""

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


ADDRESS = _Parsed("HOST:PORT", Address.parse)
DURATION = _Parsed("DURATION", duration)
TRUST_DOMAIN = _Parsed("DOMAIN", TrustDomain.parse)
SPIFFE_ID = _Parsed("ID", SpiffeId.parse)
SELECTOR = _Parsed("TYPE:VALUE", Selector.parse)
TTL = _Parsed("TTL", lambda text: _seconds(text))
MOMENT = _Parsed("TIME", lambda text: _moment(text))


def config_option(command: F) -> F:
    """``--config FILE``; whether it can be read is said by whoever reads it."""
    return click.option("--config", required=True, type=click.Path(path_type=Path), help="The YAML file.")(command)


def output_option(command: F) -> F:
    """``--output text|json``, given to the verb as ``out``."""
    choice = click.option(
        "--output",
        "out",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        callback=lambda ctx, param, value: Output(as_json=value == "json"),
        help="For people or for programs.",
    )
    return choice(command)


def choice_options(command: F) -> F:
    """``--spiffe-id`` and ``--hint``, given to the verb as ``spiffe_id`` and ``hint``: which of several SVIDs."""
    for option in (
        click.option("--hint", help="Take the SVID with this hint, not the default one."),
        click.option("--spiffe-id", type=SPIFFE_ID, help="Take the SVID of this identity, not the default one."),
    ):
        command = option(command)
    return command


def workload_option(command: F) -> F:
    """``--workload-socket``, a path or an address; None leaves it to the environment."""
    where = f"The Workload API's socket; where it is not given, {ENVIRONMENT_VARIABLE} says it."
    return click.option("--workload-socket", metavar="PATH|ADDRESS", help=where)(command)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log from this level on, one line a record. Standard output is for what was asked for."""
    # grpclib tells of each call that its caller ends early, which every caller may do at any rate.
    logger("grpclib").setLevel(logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def _seconds(text: str) -> int:
    """Whole seconds: a number of them, or such as 5m or 1h."""
    if text.isascii() and text.isdigit():
        return whole_number(0, int(LONGEST.total_seconds()))(text)
    seconds = duration(text).total_seconds()
    if not seconds.is_integer():
        raise RequestError(f"wanted whole seconds, got {shown(text)}")
    return int(seconds)


def _moment(text: str) -> datetime:
    """ISO 8601 with its offset from UTC, or seconds since 1970."""
    wanted = f"wanted a time such as 2030-01-31T12:00:00Z, or seconds since 1970, got {shown(text)}"
    try:
        number = text.isascii() and text.isdigit()
        moment = datetime.fromtimestamp(int(text), UTC) if number else datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError(wanted) from error
    if moment.tzinfo is None:
        raise RequestError(wanted)
    return moment.astimezone(UTC)
