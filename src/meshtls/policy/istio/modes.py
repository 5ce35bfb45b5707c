"""Which mode of TLS an inbound port takes: the PeerAuthentications of mesh, namespace and workload. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from meshtls.policy.istio.model import MeshSettings, MtlsMode, PeerAuthentication, Workload
from meshtls.policy.istio.scope import age, policy_name, selects

__all__ = ["Modes", "resolve_modes"]


class Modes:
    """The modes of a workload's ports, each with the name of the policy that sets it: None for the default."""

    __slots__ = ("_ports", "default")

    def __init__(self, default: tuple[MtlsMode, str | None], ports: dict[int, tuple[MtlsMode, str | None]]) -> None:
        self.default, self._ports = default, ports

    def of(self, port: int | None) -> tuple[MtlsMode, str | None]:
        """The mode of a port, which is the workload's own, not the service's. Never UNSET."""
        return self.default if port is None else self._ports.get(port, self.default)


def resolve_modes(documents: Iterable[PeerAuthentication], workload: Workload, mesh: MeshSettings) -> Modes:
    """Mesh, namespace, workload: a narrower policy overrides, unless its mode is UNSET. PERMISSIVE without any.

    At each level the oldest counts, whatever it says: they are not merged. One in the root namespace that has a
    selector is ignored. Ports count only from the workload's policy.
    """
    root, own = mesh.root_namespace, workload.namespace
    documents = tuple(documents)
    of_mesh = [one for one in documents if one.meta.namespace == root and not one.selector]
    of_namespace = [one for one in documents if one.meta.namespace == own != root and not one.selector]
    of_workload = [
        one
        for one in documents
        if one.meta.namespace == own != root and one.selector and selects(one.selector, workload)
    ]
    default: tuple[MtlsMode, str | None] = (MtlsMode.PERMISSIVE, None)
    chosen: PeerAuthentication | None = None
    for level in (of_mesh, of_namespace, of_workload):
        chosen = min(level, key=lambda one: age(one.meta), default=None)
        if chosen is not None and chosen.mode is not MtlsMode.UNSET:
            default = (chosen.mode, policy_name(chosen.meta))
    ports: dict[int, tuple[MtlsMode, str | None]] = {}
    if chosen is not None:
        name = policy_name(chosen.meta)
        ports = {port: (mode, name) for port, mode in chosen.ports if mode is not MtlsMode.UNSET}
    return Modes(default, ports)
