"""Istio's PeerAuthentication, AuthorizationPolicy, RequestAuthentication and DestinationRule as frozen values. Pure.

Patterns are kept as they were written; ``compile`` gives them their meaning. Each document and each rule knows its
place in the file, for messages.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

import msgspec

from meshtls.config.document import Place
from meshtls.spiffeid import TrustDomain

__all__ = [
    "ROOT_NAMESPACE",
    "Action",
    "AuthorizationPolicy",
    "ClientTls",
    "ClientTlsMode",
    "Condition",
    "DestinationRule",
    "Documents",
    "JwtRule",
    "MeshOptions",
    "MeshSettings",
    "Metadata",
    "MtlsMode",
    "Normalization",
    "Operation",
    "PeerAuthentication",
    "RequestAuthentication",
    "Rule",
    "Source",
    "Subset",
    "TokenHeader",
    "Workload",
]

Labels = tuple[tuple[str, str], ...]
#: The namespace whose policies are for all namespaces, where the mesh does not name another one.
ROOT_NAMESPACE = "istio-system"


class MtlsMode(Enum):
    """What an inbound port takes. UNSET, or a missing mode, takes that of the wider scope."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class Action(Enum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


class ClientTlsMode(Enum):
    """How a destination is dialled."""

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class Normalization(Enum):
    """What is done to a path before it is matched, and before the app gets it (MeshConfig.pathNormalization)."""

    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a document. ``created`` decides between policies of one level: the oldest wins, and one without
    it is newer than any with.
    """

    name: str
    namespace: str
    place: Place
    created: datetime | None = None
    labels: Labels = ()
    annotations: Labels = ()


class PeerAuthentication(msgspec.Struct, frozen=True, kw_only=True):
    meta: Metadata
    #: ``matchLabels``; empty is no selector.
    selector: Labels = ()
    mode: MtlsMode = MtlsMode.UNSET
    ports: tuple[tuple[int, MtlsMode], ...] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Every field that is not empty must match; one of its values does.

    ``spiffe_ids`` is no field of a document: SPIFFE IDs without their scheme, each of them that identity and no other,
    while a principal's trust domain may stand for another one (``cluster.local``, an alias), and a star for any text.
    """

    spiffe_ids: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """As ``Source``."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Matches if one of ``sources`` and one of ``operations`` and every condition match; an empty tuple matches."""

    place: Place
    sources: tuple[Source, ...] = ()
    operations: tuple[Operation, ...] = ()
    conditions: tuple[Condition, ...] = ()


class AuthorizationPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """``rules`` empty never matches. ``provider`` is that of CUSTOM. One with ``target_refs`` is for gateways alone."""

    meta: Metadata
    selector: Labels = ()
    action: Action = Action.ALLOW
    rules: tuple[Rule, ...] = ()
    provider: str | None = None
    dry_run: bool = False
    target_refs: bool = False


class TokenHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A header that carries a token after ``prefix``."""

    name: str
    prefix: str = ""


class JwtRule(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one issuer. ``jwks`` is the key set's text; one of ``jwks``, ``jwks_uri`` and ``jwks_file`` is given.

    ``jwks_file`` is this mesh's own addition. So is a rule for JWT-SVIDs: ``spiffe://`` and a trust domain is its
    ``jwks_uri``, or its ``issuer`` with none of the three; its keys are those of that domain's bundle. Without
    ``from_*`` a token is looked for in ``authorization: Bearer`` and in the parameter ``access_token``.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    jwks: str | None = None
    jwks_uri: str | None = None
    jwks_file: str | None = None
    from_headers: tuple[TokenHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    output_payload_to_header: str | None = None
    #: Header and claim.
    output_claim_to_headers: Labels = ()
    forward_original_token: bool = False
    timeout: timedelta = timedelta(seconds=5)


class RequestAuthentication(msgspec.Struct, frozen=True, kw_only=True):
    meta: Metadata
    selector: Labels = ()
    rules: tuple[JwtRule, ...] = ()
    target_refs: bool = False


class ClientTls(msgspec.Struct, frozen=True, kw_only=True):
    """The files are of MUTUAL, ``ca_certificates`` also of SIMPLE; None where the document does not name one."""

    mode: ClientTlsMode
    client_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    subject_alt_names: tuple[str, ...] = ()
    sni: str | None = None


class Subset(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    labels: Labels = ()
    tls: ClientTls | None = None
    ports: tuple[tuple[int, ClientTls], ...] = ()


class DestinationRule(msgspec.Struct, frozen=True, kw_only=True):
    """``host`` is a name, or ``*.suffix``. ``ports`` beat a subset, which beats ``tls``."""

    meta: Metadata
    host: str
    tls: ClientTls | None = None
    ports: tuple[tuple[int, ClientTls], ...] = ()
    subsets: tuple[Subset, ...] = ()
    #: Whose calls it is for; empty is everybody's.
    selector: Labels = ()


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was read, in the order of the files, and what the reader wants the operator to know."""

    peer_authentications: tuple[PeerAuthentication, ...] = ()
    authorization_policies: tuple[AuthorizationPolicy, ...] = ()
    request_authentications: tuple[RequestAuthentication, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    warnings: tuple[str, ...] = ()


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What selectors and scopes are matched with: the workload that a sidecar or a service is."""

    namespace: str
    labels: Labels = ()
    service_account: str | None = None


class MeshOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What Istio has in MeshConfig, but for the trust domain, which a workload's ID tells."""

    trust_domain_aliases: tuple[str, ...] = ()
    root_namespace: str = ROOT_NAMESPACE
    normalization: Normalization = Normalization.BASE

    def of(self, trust_domain: TrustDomain) -> MeshSettings:
        """The settings of a mesh of this trust domain."""
        return MeshSettings(
            trust_domain=trust_domain.name,
            trust_domain_aliases=self.trust_domain_aliases,
            root_namespace=self.root_namespace,
            normalization=self.normalization,
        )


class MeshSettings(MeshOptions, frozen=True, kw_only=True):
    """What Istio has in MeshConfig."""

    trust_domain: str
