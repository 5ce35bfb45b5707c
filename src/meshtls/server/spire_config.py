"""Converts SPIRE's ``server.conf`` to our own server file. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.config.document import Document, Items, Node, Section, Text, described
from meshtls.config.spire import FOR_ALL, Block, SpireFile

__all__ = ["NOT_YET", "from_spire"]

_NO_EFFECT = FOR_ALL | {
    "admin_ids": "an entry marked admin makes an administrator: meshtls entry create --admin",
    "audit_log_enabled": "the audit trail is always on: meshtls audit show",
    "jwt_issuer": "JWT-SVIDs have no issuer claim; their key is found in the trust bundle",
    "max_attested_node_info_staleness": "agents are looked up at each call",
    "prune_attested_nodes_expired_for": "agents are kept until meshtls agents evict",
    "prune_tofu_nodes": "agents are kept until meshtls agents evict",
    "ratelimit": "callers are bounded by this server's own limits",
}
_EXPERIMENTAL = {
    "cache_reload_interval": "changes are pushed",
    "full_cache_reload_interval": "changes are pushed",
    "events_based_cache": "changes are pushed",
    "prune_events_older_than": "changes are pushed",
    "event_timeout": "changes are pushed",
    "feature_flags": "these are features of SPIRE",
    "named_pipe_name": "it applies to Windows only",
    "sql_transaction_timeout": "the data store's own timeouts apply",
}
# A key that restricts or protects must not be dropped with a notice.
_REFUSED = {"disable_jwt_svids": "wanted false: JWT-SVIDs can't be switched off here"}
_EXPERIMENTAL_REFUSED = {
    "auth_opa_policy_engine": "this policy would restrict callers, and there is no policy engine here; remove this key",
    "require_pq_kem": "wanted false: a post-quantum key exchange can't be required here",
}
_BLOCKS = {
    "telemetry": "there are no metrics sinks; metrics.listen serves metrics for Prometheus",
    "health_checks": "meshtls server healthcheck asks on the administrators' socket",
}
_KINDS = {
    "Notifier": "meshtls bundle show exports the bundle",
    "BundlePublisher": "meshtls bundle show exports the bundle",
    "CredentialComposer": "SVIDs are what their entries say",
    "WorkloadAttestor": "workloads are attested by the agent",
}
_SQL = {
    "ro_connection_string": "reads go to connection_string",
    "max_open_conns": "the pool's size is fixed",
    "max_idle_conns": "the pool's size is fixed",
    "conn_max_lifetime": "the pool's size is fixed",
    "log_sql": "statements are not logged",
}
_SQL_REFUSED = {
    "root_ca_path": "TLS files for the database can't be configured here; remove this key",
    "client_cert_path": "TLS files for the database can't be configured here; remove this key",
    "client_key_path": "TLS files for the database can't be configured here; remove this key",
    "disable_migration": "wanted false: the server brings its schema up to date when it starts",
}
_UPSTREAM = {"ttl": "ca_ttl applies", "experimental": "it applies to Windows only"}
_ACME = {"acme": "certificates can't be requested by ACME here; give serving_cert_file"}
_SERVING_CERT = {"file_sync_interval": "the files are looked at every second"}
_ENDPOINT_DEFAULTS = {"address": "0.0.0.0", "port": "443"}  # noqa: S104  # SPIRE's
_X509POP = {"agent_path_template": "an agent is named after its certificate's fingerprint"}
#: SPIRE's node attestors that are not supported.
NOT_YET = (
    "aws_iid",
    "azure_imds",
    "azure_msi",
    "gcp_iit",
    "http_challenge",
    "k8s_psat",
    "k8s_sat",
    "sshpop",
    "tpm_devid",
)


_MODE = "wanted external_pki: SPIFFE IDs of a node's certificate are not taken over here"


def from_spire(document: Document) -> Document:
    """The file in our form. Errors are added to the document's problems."""
    file = SpireFile(document, "server")
    server = file.block
    server.without_effect(_NO_EFFECT)
    server.refused(_REFUSED)
    server.unfold("ca_subject")
    experimental = server.take("experimental")
    experimental.without_effect(_EXPERIMENTAL)
    experimental.refused(_EXPERIMENTAL_REFUSED)
    experimental.unknown((*_EXPERIMENTAL, *_EXPERIMENTAL_REFUSED))
    _federation(server)
    server.refuse_ours(("datastore", "key_manager", "node_attestors", "upstream_authority"))
    if stores := _datastore(file):
        server.keys["datastore"] = Section(file.where("DataStore"), stores)
    if keys := {
        name: plugin.data.section for name, plugin in file.plugins("KeyManager", ("disk", "memory", "pkcs11")).items()
    }:
        server.keys["key_manager"] = Section(file.where("KeyManager"), keys)
    # SPIRE accepts only the node attestors that the file names; ours accepts join tokens if none is named.
    attestors = _node_attestors(file)
    server.keys["node_attestors"] = Section(file.where("NodeAttestor"), attestors)
    # One that is not supported is an error: without it, this server would make a root of its own.
    if above := file.plugins("UpstreamAuthority", ("disk", "spire")):
        found = {name: plugin.data for name, plugin in above.items()}
        for data in found.values():
            data.without_effect(_UPSTREAM)
        keys = {name: data.section for name, data in found.items()}
        server.keys["upstream_authority"] = Section(file.where("UpstreamAuthority"), keys)
    return file.finish(_BLOCKS, _KINDS)


def _federation(server: Block) -> None:
    if "federation" not in server.keys:
        return
    document, federation = server.document, server.take("federation")
    keys: dict[str, Node] = {}
    if "bundle_endpoint" in federation.keys:
        endpoint = federation.take("bundle_endpoint")
        endpoint.refused(_ACME)
        for name, text in _ENDPOINT_DEFAULTS.items():
            endpoint.keys.setdefault(name, Text(endpoint.place.below(name), text))
        for name, node in endpoint.take("profile").keys.items():
            profile = Block(document, node)
            if name == "https_web":
                profile.refused(_ACME)
                files = profile.take("serving_cert_file")
                profile.unknown(("serving_cert_file",))
                files.without_effect(_SERVING_CERT)
                endpoint.keys[name] = files.section
            elif name == "https_spiffe":
                endpoint.keys[name] = profile.section
            else:
                document.problems.add(profile.place, f"wanted the profile https_spiffe or https_web, got {name!r}")
        keys["bundle_endpoint"] = endpoint.section
    if relations := federation.keys.pop("federates_with", None):
        keys["federates_with"] = Items(relations.place, tuple(_federates_with(document, relations)))
    federation.unknown(("bundle_endpoint", "federates_with"))
    server.keys["federation"] = Section(federation.place, keys)


def _federates_with(document: Document, relations: Node) -> Iterator[Section]:
    for one in relations.items if isinstance(relations, Items) else (relations,):
        for name, node in Block(document, one).keys.items():
            relation = Block(document, node)
            for profile, inner in relation.take("bundle_endpoint_profile").keys.items():
                relation.keys[profile] = Block(document, inner).section
            relation.keys["trust_domain"] = Text(relation.place, name)
            yield relation.section


def _datastore(file: SpireFile) -> dict[str, Node]:
    stores: dict[str, Node] = {}
    for name, plugin in file.plugins("DataStore", ("sql", "sqlite3", "postgres")).items():
        data = plugin.data
        data.without_effect(_SQL)
        data.refused(_SQL_REFUSED)
        kind = data.keys.pop("database_type", None) if name == "sql" else Text(plugin.place, name)
        if isinstance(kind, Text) and kind.text in ("sqlite3", "postgres"):
            stores[kind.text] = data.section
        else:
            got = "nothing" if kind is None else described(kind)
            place = data.place.below("database_type") if kind is None else kind.place
            file.document.problems.add(place, f"wanted sqlite3 or postgres, got {got}")
    return stores


def _node_attestors(file: SpireFile) -> dict[str, Node]:
    attestors: dict[str, Node] = {}
    for name, plugin in file.plugins("NodeAttestor", ("join_token", "x509pop", *NOT_YET)).items():
        data = plugin.data
        if name in NOT_YET:
            file.document.notice(plugin.place, "recognised but not supported yet: no node can attest with it")
            continue
        if name == "x509pop":
            data.without_effect(_X509POP)
            mode = data.keys.pop("mode", None)
            if mode is not None and not (isinstance(mode, Text) and mode.text in ("", "external_pki")):
                file.document.problems.add(mode.place, f"{_MODE}, got {described(mode)}")
        attestors[name] = data.section
    return attestors
