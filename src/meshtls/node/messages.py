"""The messages that the node takes, typed, and the replies that it gives. Pure."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Annotated, Any

import msgspec

from meshtls.node.words import bounded

__all__ = [
    "DEFAULT_SERVER",
    "ErrorCode",
    "Handshake",
    "IssueCertificate",
    "Message",
    "Policy",
    "Reply",
    "Rotate",
    "VerifyIdentity",
    "encode",
    "error_reply",
]

DEFAULT_SERVER = "default-server"
Reply = dict[str, Any]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ErrorCode(IntEnum):
    """The two codes of an error reply.

    MALFORMED also says that the node itself failed on the message: of the two it tells not to send the same again.
    """

    UNSUPPORTED = 10
    MALFORMED = 12


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every message has. ``trust_domain`` and ``namespace`` say where the services that it names live."""

    msg_id: int


class Handshake(Message, frozen=True, kw_only=True, tag="handshake"):
    """Connect ``client`` to ``server``.

    ``cert`` and ``server_cert`` (PEM) are what the client and the server present in place of their own SVIDs.
    """

    client: str
    server: str | None = None
    cert: str | None = None
    server_cert: str | None = None
    namespace: str | None = None
    trust_domain: str | None = None


class IssueCertificate(Message, frozen=True, kw_only=True, tag="issue_certificate"):
    """Certify ``service``, for the key of ``csr`` (PEM) or else for a new one; ``ttl`` is in seconds."""

    service: str
    namespace: str | None = None
    trust_domain: str | None = None
    csr: str | None = None
    ttl: _Seconds | None = None


class VerifyIdentity(Message, frozen=True, kw_only=True, tag="verify_identity"):
    """Is ``spiffe_id`` a service of ``trust_domain``, and which?

    Where ``service`` or ``namespace`` is given, the ID has to name just that one.
    """

    spiffe_id: str
    trust_domain: str
    service: str | None = None
    namespace: str | None = None


class Rotate(Message, frozen=True, kw_only=True, tag="rotate"):
    """Give ``service`` a new key and SVID."""

    service: str
    namespace: str | None = None
    trust_domain: str | None = None


class Policy(Message, frozen=True, kw_only=True, tag="policy"):
    """From now on only ``allow``, SPIFFE IDs or services, may reach ``server``."""

    server: str
    allow: list[str]
    namespace: str | None = None
    trust_domain: str | None = None


def error_reply(in_reply_to: int | None, code: ErrorCode, text: str) -> Reply:
    """``code`` says whose fault it is, ``text`` what was wrong and where."""
    return {"type": "error", "in_reply_to": in_reply_to, "code": int(code), "text": bounded(text)}


def encode(reply: Reply) -> bytes:
    """One line of JSON, with its end. ASCII only, so that no reader has to guess an encoding."""
    return json.dumps(reply).encode() + b"\n"
