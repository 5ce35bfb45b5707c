"""The messages that the node accepts and the replies that it sends. Pure."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Annotated, Any

import msgspec

__all__ = [
    "DEFAULT_SERVER",
    "LONGEST_DETAIL",
    "LONGEST_TEXT",
    "ErrorCode",
    "Handshake",
    "HttpCall",
    "IssueCertificate",
    "Message",
    "Policy",
    "Reply",
    "Rotate",
    "VerifyIdentity",
    "bounded",
    "encode",
    "error_reply",
]

DEFAULT_SERVER = "default-server"
#: Characters of a text that quotes its input.
LONGEST_TEXT = 2000
#: Characters of the detail of a refusal, which holds two IDs of up to 2,048 bytes each.
LONGEST_DETAIL = 5000
_TAIL = 500
_CUT = " ... "
Reply = dict[str, Any]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ErrorCode(IntEnum):
    """The two codes of an error reply.

    MALFORMED is also the code for an internal error of the node: it tells the client not to send the message again.
    """

    UNSUPPORTED = 10
    MALFORMED = 12


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """The field of every message. Most also have the ``trust_domain`` and ``namespace`` of the services they name."""

    msg_id: int


class HttpCall(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request without a body. Without ``host`` it is that of the server's name."""

    method: str = "GET"
    path: str = "/"
    host: str | None = None
    headers: dict[str, str] = {}


class Handshake(Message, frozen=True, kw_only=True, tag="handshake"):
    """Connect ``client`` to ``server``.

    ``cert`` and ``server_cert`` (PEM) are what the client and the server present instead of their own SVIDs. With
    ``request``, an HTTP request is sent through both sidecars, and the server's judges it. ``plaintext``: the client
    speaks no TLS, and proves no identity.
    """

    client: str
    server: str | None = None
    cert: str | None = None
    server_cert: str | None = None
    request: HttpCall | None = None
    plaintext: bool = False
    namespace: str | None = None
    trust_domain: str | None = None


class IssueCertificate(Message, frozen=True, kw_only=True, tag="issue_certificate"):
    """Issue a certificate to ``service``, for the key of ``csr`` (PEM) or a new one; ``ttl`` is in seconds."""

    service: str
    namespace: str | None = None
    trust_domain: str | None = None
    csr: str | None = None
    ttl: _Seconds | None = None


class VerifyIdentity(Message, frozen=True, kw_only=True, tag="verify_identity"):
    """Check that ``spiffe_id`` names a service of ``trust_domain``, and report which.

    If ``service`` or ``namespace`` is set, the ID must name that service or namespace.
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
    """Allow only ``allow``, SPIFFE IDs or service names, to connect to ``server``.

    ``documents`` are Istio's AuthorizationPolicy and PeerAuthentication: YAML, a document as an object, or several in a
    list. They decide, and ``allow`` beside them is one more ALLOW policy. Selectors match ``labels``, the server's. All
    that an earlier message set for the server is replaced.
    """

    server: str
    allow: list[str] | msgspec.UnsetType = msgspec.UNSET
    documents: str | dict[str, Any] | list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    labels: dict[str, str] = {}
    namespace: str | None = None
    trust_domain: str | None = None

    def __post_init__(self) -> None:
        if self.allow is msgspec.UNSET and self.documents is msgspec.UNSET:
            raise ValueError("Object missing required field `allow` or `documents`")


def error_reply(in_reply_to: int | None, code: ErrorCode, text: str) -> Reply:
    """An error reply. ``text`` says what was wrong, and where."""
    return {"type": "error", "in_reply_to": in_reply_to, "code": int(code), "text": bounded(text)}


def encode(reply: Reply) -> bytes:
    """One line of JSON with its line feed. ASCII only, so that a reader need not know the encoding."""
    return json.dumps(reply).encode() + b"\n"


def bounded(text: str, most: int = LONGEST_TEXT) -> str:
    """The text cut to ``most`` characters (more than 505). The middle, which holds the quoted values, is cut out."""
    return text if len(text) <= most else text[: most - len(_CUT) - _TAIL] + _CUT + text[-_TAIL:]
