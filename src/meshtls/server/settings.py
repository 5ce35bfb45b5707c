"""A server's settings as frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.profile import CaSubject
from meshtls.logs import LogFormat
from meshtls.observe.process_name import ProcessKind, ProcessName
from meshtls.rpc.limits import ListenerLimits
from meshtls.server.config_keys import ServerFile
from meshtls.serverapi.federation import Relation
from meshtls.spiffeid import TrustDomain

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = [
    "BundleEndpoint",
    "ConfiguredRelation",
    "DiskUpstream",
    "KeyPlace",
    "NestedUpstream",
    "ServerConfig",
    "TokenConfig",
    "WitnessConfig",
    "X509PopConfig",
]


class KeyPlace(Enum):
    """Where the server's keys are stored."""

    MEMORY = "memory"
    DISK = "disk"
    PKCS11 = "pkcs11"


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """The PKCS#11 token that has the roots' keys, and where its PIN is; which other keys it has too."""

    module: Path
    label: str
    pin_file: Path | None
    pin_env: str
    intermediates: bool
    jwt: bool


@dataclass(frozen=True, slots=True)
class X509PopConfig:
    """Node attestation by X.509 certificates. ``ca_bundles`` are PEM files. A node may attest with a certificate that
    chains to one of their CAs.
    """

    ca_bundles: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class DiskUpstream:
    """An upstream authority in PEM files. ``bundle_file`` has the root where the certificate is none."""

    cert_file: Path
    key_file: Path
    bundle_file: Path | None


@dataclass(frozen=True, slots=True)
class NestedUpstream:
    """A server above this one. ``workload_api`` is the address from which this server gets its SVID there."""

    host: str
    port: int
    workload_api: str
    is_spire: bool


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """A witness of the transparency log: ``add-checkpoint`` is below ``url``, and ``key`` verifies its cosignatures."""

    url: str
    key: str


@dataclass(frozen=True, slots=True)
class BundleEndpoint:
    """The HTTPS server of our bundle. It presents the certificate of ``certificate`` and ``key``, PEM files, or without
    them the server's own X509-SVID. ``refresh_hint`` is in seconds.
    """

    listen: Address
    refresh_hint: int
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class ConfiguredRelation:
    """A relation of the server's file, and the file with the bundle to begin with."""

    relation: Relation
    bundle: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The settings of a server. Their defaults, which are in ``config``, suit a laptop.

    - ``bind_port`` speaks mutual TLS; ``attest_port`` serves only the attestation of nodes that have no SVID yet. 0
      means any free port.
    - ``ca_ttl``: the lifetime of an intermediate, which signs SVIDs and is renewed automatically.
    - ``root_ttl``, ``jwt_key_ttl``: those of authorities, which are replaced automatically.
    - ``log_listen``: where the transparency log is served over HTTP; None: nowhere.
    - ``revocation_listen``, ``revocation_url``: where CRLs and OCSP are served over HTTP, and the URL by which
      certificates point there; None and empty: nowhere.
    - ``metrics``: where metrics are scraped over TCP; None: nowhere.
    - ``upstream``: what signs this server's CA; None where it has a root of its own.
    - ``downstream_spire_listen``: where SPIRE servers below this one call it; None: nowhere.
    - ``bundle_endpoint``: None: there is none. ``federates_with``: relations that override those of the store.
    - ``notices``: keys without effect, or with another effect than the file's value, for the operator.
    - ``file``: the file key by key, which a reload compares.
    """

    trust_domain: TrustDomain
    data_dir: Path
    socket_path: Path
    datastore: URL
    limits: ListenerLimits
    bind_address: str
    bind_port: int
    attest_port: int
    log_level: str
    log_format: LogFormat
    admin: AdminKeys | None
    metrics: Address | None
    ca_subject: CaSubject
    ca_key_type: KeyAlgorithm
    jwt_key_type: KeyAlgorithm
    ca_ttl: timedelta
    root_ttl: timedelta
    jwt_key_ttl: timedelta
    agent_ttl: timedelta
    default_x509_svid_ttl: timedelta
    default_jwt_svid_ttl: timedelta
    key_place: KeyPlace
    keys_dir: Path
    token: TokenConfig | None
    offline_root: bool
    join_token: bool
    x509pop: X509PopConfig | None
    audit_records: int
    log_listen: Address | None
    log_witnesses: tuple[WitnessConfig, ...]
    revocation_listen: Address | None
    revocation_url: str
    upstream: DiskUpstream | NestedUpstream | None
    downstream_spire_listen: Address | None
    bundle_endpoint: BundleEndpoint | None
    federates_with: tuple[ConfiguredRelation, ...]
    notices: tuple[str, ...]
    file: ServerFile = field(repr=False, compare=False)

    @property
    def process(self) -> ProcessName:
        """Which server runs with this file."""
        return ProcessName(ProcessKind.SERVER, str(self.socket_path), str(self.trust_domain))
