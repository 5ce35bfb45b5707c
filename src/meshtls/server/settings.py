"""A server's settings as frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.profile import CaSubject
from meshtls.rpc.limits import Limits
from meshtls.server.config_keys import ServerFile
from meshtls.spiffeid import TrustDomain

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = [
    "KeyPlace",
    "ServerConfig",
    "X509PopConfig",
]


class KeyPlace(Enum):
    """Where the server's keys are stored."""

    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class X509PopConfig:
    """``ca_bundles`` are PEM files. A node may attest with a certificate that chains to one of their CAs."""

    ca_bundles: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The settings of a server. Their defaults, which are in ``config``, suit a laptop.

    - ``bind_port`` speaks mutual TLS; ``attest_port`` serves only the attestation of nodes that have no SVID yet. 0
      means any free port.
    - ``ca_ttl``: the lifetime of an intermediate, which signs SVIDs and is renewed automatically.
    - ``notices``: keys without effect, or with another effect than the file's value, for the operator.
    - ``file``: the file key by key, which a reload compares.
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
    file: ServerFile = field(repr=False, compare=False)
