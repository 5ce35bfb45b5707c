"""A server's settings as frozen values, and how each single one is read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

from sqlalchemy import URL

from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.profile import CaSubject
from meshtls.errors import RequestError
from meshtls.rpc.limits import Limits
from meshtls.scalars import duration, shown
from meshtls.spiffeid import TrustDomain

__all__ = [
    "DEFAULT_LIMITS",
    "KeyPlace",
    "ServerConfig",
    "X509PopConfig",
    "country",
    "key_type",
    "lifetime",
    "name",
]


#: An agent keeps a connection open.
DEFAULT_LIMITS = Limits(connections=8192)


class KeyPlace(Enum):
    """Where the server's keys are kept."""

    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class X509PopConfig:
    """``ca_bundle`` is a PEM file: nodes whose certificate leads to one of its CAs may attest with it."""

    ca_bundle: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Everything that a server runs by. Its defaults, which are in ``config``, are good for a laptop.

    ``bind_port`` speaks mutual TLS; ``attest_port`` takes nodes that have no SVID yet and serves nothing but their
    attestation. 0 takes a free port. ``ca_ttl`` is how long an intermediate, which signs, lives; it renews itself.
    ``notices`` are what the file says that has no effect here, or another one than it says, in words for the operator.
    """

    trust_domain: TrustDomain
    data_dir: Path
    socket_path: Path
    datastore: URL
    limits: Limits
    bind_address: str
    bind_port: int
    attest_port: int
    log_level: str
    ca_subject: CaSubject
    ca_key_type: KeyAlgorithm
    jwt_key_type: KeyAlgorithm
    ca_ttl: timedelta
    agent_ttl: timedelta
    default_x509_svid_ttl: timedelta
    default_jwt_svid_ttl: timedelta
    key_place: KeyPlace
    keys_dir: Path
    join_token: bool
    x509pop: X509PopConfig | None
    notices: tuple[str, ...]


def name(text: str) -> str:
    """A part of a CA's name (RFC 5280, appendix A.1: at most 64 characters)."""
    if not 1 <= len(text) <= 64:
        raise RequestError(f"wanted 1 to 64 characters, got {len(text)}")
    return text


def country(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", text, re.ASCII):
        raise RequestError(f"wanted a country's two letters such as US, got {shown(text)}")
    return text


def lifetime(text: str) -> timedelta:
    """``90s``, ``5m``, ``1h30m``, ``1.5h``: at least a second."""
    wanted = duration(text)
    if wanted < timedelta(seconds=1):
        raise RequestError(f"wanted at least a second, got {shown(text)}")
    return wanted


def key_type(text: str) -> KeyAlgorithm:
    """SPIRE's names of key types. A JWT key of an EC type signs ES256 or ES384, one of an RSA type RS256."""
    try:
        return KeyAlgorithm(text)
    except ValueError as error:
        raise RequestError(f"wanted {', '.join(one.value for one in KeyAlgorithm)}, got {shown(text)}") from error
