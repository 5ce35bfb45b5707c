"""Converts SPIRE's ``server.conf`` to our own server file. Pure."""

from __future__ import annotations

from meshtls.config.document import Document, Node, Section, Text, described
from meshtls.config.spire import FOR_ALL, SpireFile

__all__ = ["NOT_YET", "from_spire"]

_OWN_ROOT = "the server's own root is the trust domain's"
_NO_EFFECT = FOR_ALL | {
    "admin_ids": "an entry marked admin makes an administrator: meshtls entry create --admin",
    "audit_log_enabled": "there is no audit log; the log has every refusal",
    "federation": "bundles are exchanged by meshtls bundle set, not by an endpoint",
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
    "telemetry": "there are no metrics sinks",
    "health_checks": "meshtls server healthcheck asks on the administrators' socket",
}
_KINDS = {
    "UpstreamAuthority": _OWN_ROOT,
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
    server.refuse_ours(("datastore", "key_manager", "node_attestors"))
    if stores := _datastore(file):
        server.keys["datastore"] = Section(file.where("DataStore"), stores)
    if keys := {name: plugin.data.section for name, plugin in file.plugins("KeyManager", ("disk", "memory")).items()}:
        server.keys["key_manager"] = Section(file.where("KeyManager"), keys)
    # SPIRE accepts only the node attestors that the file names; ours accepts join tokens if none is named.
    attestors = _node_attestors(file)
    server.keys["node_attestors"] = Section(file.where("NodeAttestor"), attestors)
    return file.finish(_BLOCKS, _KINDS)


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
