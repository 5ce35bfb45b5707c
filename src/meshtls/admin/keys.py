"""The section ``admin`` of a configuration file: where a process answers its operator. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from meshtls.address import Address, is_loopback
from meshtls.config.keys import PATH, Key, Value
from meshtls.config.reading import Found, Rule, RuleProblems
from meshtls.errors import RequestError
from meshtls.scalars import shown

__all__ = ["AdminKeys"]


def _loopback(text: str) -> Address:
    address = Address.parse(text)
    if address.host == "localhost" or not is_loopback(address.host):
        raise RequestError(
            f"wanted an IP address of this machine alone, such as 127.0.0.1:9901 or [::1]:9901, got {shown(text)}:"
            " whoever can connect there can read the configuration and every peer's identity"
        )
    return address


def _listen_notice(text: str) -> str:
    return (
        "every user of this machine, and every container that shares its network, can read the admin interface there;"
        " admin.socket is for this process's user alone"
    )


_LOOPBACK: Value[Address] = Value(
    "loopback address:port", _loopback, {"type": "string", "pattern": "^.+:[0-9]{1,5}$"}, notice=_listen_notice
)


def _answers_somewhere(found: Found[AdminKeys]) -> RuleProblems:
    if not found.given:
        yield "", "wanted socket, or listen, or both: without them there is no admin interface"


class AdminKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Where the admin interface answers."""

    socket: Annotated[
        Path | None, Key("A Unix socket that only this process's user may open (mode 0600).", PATH, default="none")
    ] = None
    listen: Annotated[
        Address | None,
        Key("A loopback address, for reading only. Every user of the machine can connect.", _LOOPBACK, default="none"),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_answers_somewhere,)
