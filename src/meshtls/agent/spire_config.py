"""Converts SPIRE's ``agent.conf`` to our own agent file. Pure."""

from __future__ import annotations

from meshtls.agent.attest.attestor import ATTESTORS
from meshtls.config.document import Document, Items, Node, Section, Text
from meshtls.config.spire import FOR_ALL, SpireFile

__all__ = ["from_spire"]

_SPIRE_SOCKET = "/tmp/spire-agent/public/api.sock"  # noqa: S108  # SPIRE's default, where its workloads look for it
_NO_EFFECT = FOR_ALL | {
    "admin_socket_path": "the agent has no socket for administrators",
    "allow_unauthenticated_verifiers": "a caller without an entry gets nothing",
    "allowed_foreign_jwt_claims": "all claims of a validated token are returned",
    "authorized_delegates": "there is no Delegated Identity API",
    "availability_target": "SVIDs are renewed at half of their life",
    "jwt_svid_cache_max_size": "the cache has a fixed bound",
    "rebootstrap_delay": "an agent that the server does not know attests again automatically",
    "rebootstrap_mode": "an agent that the server does not know attests again automatically",
    "retry_bootstrap": "the agent retries until the server answers",
    "trust_bundle_format": "PEM and SPIFFE bundle documents are told apart by their content",
    "workload_x509_svid_key_type": "workloads get EC P-256 keys",
    "x509_svid_cache_max_size": "every SVID that this agent may have is kept",
}
_EXPERIMENTAL = {
    "admin_named_pipe_name": "it applies to Windows only",
    "feature_flags": "these are features of SPIRE",
    "named_pipe_name": "it applies to Windows only",
    "sync_interval": "the server pushes changes",
    "use_sync_authorized_entries": "the server pushes changes",
}
_SDS = {
    "default_all_bundles_name": "the name is ALL",
    "default_bundle_name": "the name is ROOTCA",
    "default_svid_name": "the name is default",
}
_BUNDLE = "wanted trust_bundle_path instead: the bundle in that file authenticates the server"
# A key that restricts or protects must not be dropped with a notice, and there is no trust on first use.
_REFUSED = {
    "insecure_bootstrap": "wanted false: the first server to answer would be trusted; give trust_bundle_path",
    "trust_bundle_unix_socket": _BUNDLE,
    "trust_bundle_url": _BUNDLE,
}
_EXPERIMENTAL_REFUSED = {
    "require_pq_kem": "wanted false: a post-quantum key exchange can't be required here",
}
_SDS_REFUSED = {"disable_spiffe_cert_validation": "wanted false: Envoy is to check SPIFFE IDs by the trust bundle"}
_BLOCKS = {
    "telemetry": "there are no metrics sinks; metrics.listen serves metrics for Prometheus",
}
_KINDS = {"SVIDStore": "SVIDs go to workloads over the Workload API and SDS only"}
_KEYS = {"directory": "the key is kept with its SVID in data_dir"}
_NOT_YET = ("slurm", "systemd", "windows")
_UNIX = {"discover_workload_path": "a workload's path is always determined"}
_CONTAINERS = "a container is identified by its cgroup; its runtime is not queried"


def from_spire(document: Document) -> Document:
    """The file in our form. Errors are added to the document's problems."""
    file = SpireFile(document, "agent")
    agent = file.block
    agent.without_effect(_NO_EFFECT)
    agent.refused(_REFUSED)
    for name, reasons, refused in (
        ("experimental", _EXPERIMENTAL, _EXPERIMENTAL_REFUSED),
        ("sds", _SDS, _SDS_REFUSED),
    ):
        inner = agent.take(name)
        inner.without_effect(reasons)
        inner.refused(refused)
        inner.unknown((*reasons, *refused))
    agent.refuse_ours(("key_manager", "x509pop", "workload_attestors", "workload_size_limit", "health"))
    if "socket_path" not in agent.keys:
        where = agent.place.below("socket_path")
        agent.keys["socket_path"] = Text(where, _SPIRE_SOCKET)
        document.notice(where, f"the default of SPIRE is taken: {_SPIRE_SOCKET}")
    _node_attestor(file)
    _key_manager(file)
    _workload_attestors(file)
    _health(file)
    return file.finish(_BLOCKS, _KINDS)


def _node_attestor(file: SpireFile) -> None:
    attestors = file.plugins("NodeAttestor", ("join_token", "x509pop"))
    for name, plugin in attestors.items():
        if name == "x509pop":
            file.block.keys["x509pop"] = plugin.data.section
        else:
            plugin.data.unknown(())
    if "join_token" not in attestors:
        for name in ("join_token", "join_token_file"):
            if node := file.block.keys.pop(name, None):
                file.document.notice(node.place, "not used: the plugin NodeAttestor join_token is not there")


def _key_manager(file: SpireFile) -> None:
    keys: dict[str, Node] = {}
    for name, plugin in file.plugins("KeyManager", ("disk", "memory")).items():
        plugin.data.without_effect(_KEYS if name == "disk" else {})
        keys[name] = plugin.data.section
    if keys:
        file.block.keys["key_manager"] = Section(file.where("KeyManager"), keys)


def _workload_attestors(file: SpireFile) -> None:
    chosen: list[Node] = []
    for name, plugin in file.plugins("WorkloadAttestor", (*ATTESTORS, *_NOT_YET)).items():
        if name in _NOT_YET:
            file.document.notice(plugin.place, "recognised but not supported yet: it yields no selectors")
            continue
        if name == "unix":
            plugin.data.without_effect(_UNIX)
            if "workload_size_limit" in plugin.data.keys:
                file.block.keys["workload_size_limit"] = plugin.data.keys.pop("workload_size_limit")
            plugin.data.unknown((*_UNIX, "workload_size_limit"))
        else:
            plugin.data.without_effect(dict.fromkeys(plugin.data.keys, _CONTAINERS))
        chosen.append(Text(plugin.place, name))
    # SPIRE runs only the attestors that the file names; ours runs all if none is named.
    file.block.keys["workload_attestors"] = Items(file.where("WorkloadAttestor"), tuple(chosen))


def _health(file: SpireFile) -> None:
    """SPIRE's listener for probes, which differs from ours in its paths only."""
    health = file.take("health_checks")
    enabled, host, port = (health.keys.pop(name, None) for name in ("listener_enabled", "bind_address", "bind_port"))
    paths = {"live_path": "the path is /live", "ready_path": "the path is /ready"}
    health.without_effect(paths)
    health.unknown(("listener_enabled", "bind_address", "bind_port", *paths))
    if isinstance(enabled, Text) and enabled.text == "true":
        address = (
            f"{host.text if isinstance(host, Text) else 'localhost'}:{port.text if isinstance(port, Text) else 80}"
        )
        file.block.keys["health"] = Text((port or host or enabled).place, address)
