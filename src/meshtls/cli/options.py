"""Option types and options that several verbs share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from meshtls.errors import RequestError
from meshtls.sidecar.address import Address
from meshtls.sidecar.config import parse_duration
from meshtls.spiffeid import TrustDomain

__all__ = ["ADDRESS", "DURATION", "TRUST_DOMAIN", "config_option", "log_to_stderr"]

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
DURATION = _Parsed("DURATION", lambda text: timedelta(seconds=parse_duration(text)))
TRUST_DOMAIN = _Parsed("DOMAIN", TrustDomain.parse)


def config_option(command: F) -> F:
    """``--config FILE``; whether it can be read is said by whoever reads it."""
    return click.option("--config", required=True, type=click.Path(path_type=Path), help="The YAML file.")(command)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log from this level on, one line a record. Standard output is for what was asked for."""
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
