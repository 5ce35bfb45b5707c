"""Policies as they apply to one sidecar: what its file names, and what that says of each listener. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import msgspec

from meshtls.address import Address
from meshtls.config.document import Place
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    Documents,
    MeshSettings,
    Metadata,
    Rule,
    Source,
    Workload,
)
from meshtls.policy.istio.modes import Modes, resolve_modes
from meshtls.policy.istio.scope import applying_policies
from meshtls.spiffeid import SpiffeId

__all__ = ["ListenerPolicies", "PolicySet", "allow_policy"]

_SCHEME = "spiffe://"


class PolicySet(msgspec.Struct, frozen=True, kw_only=True):
    """Documents, and the mesh and the workload for which they are read."""

    documents: Documents
    mesh: MeshSettings
    workload: Workload

    def modes(self) -> Modes:
        """What each port takes, by the PeerAuthentications."""
        return resolve_modes(self.documents.peer_authentications, self.workload, self.mesh)

    def applying(self) -> tuple[AuthorizationPolicy, ...]:
        """The AuthorizationPolicies that are for this workload."""
        return applying_policies(self.documents.authorization_policies, self.workload, self.mesh)


class ListenerPolicies:
    """The policies of one inbound listener, compiled when they are first used. Equal if made of the same."""

    def __init__(self, given: PolicySet, extra: Iterable[AuthorizationPolicy] = ()) -> None:
        """``extra`` are policies of this listener alone."""
        self._given = given
        self._extra = tuple(extra)

    @property
    def documents(self) -> Documents:
        """All of them."""
        given = self._given.documents
        policies = (*given.authorization_policies, *self._extra)
        return msgspec.structs.replace(given, authorization_policies=policies)

    @cached_property
    def compiled(self) -> WorkloadPolicies:
        return compile_policies(self.documents, self._given.mesh, self._given.workload)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ListenerPolicies):
            return NotImplemented
        return (self._given, self._extra) == (other._given, other._extra)

    def __hash__(self) -> int:
        return hash(self._extra)

    def __repr__(self) -> str:
        return f"<ListenerPolicies of {self._given.workload.namespace} [{len(self._extra)} extra]>"


def allow_policy(namespace: str, listen: Address, allow: Iterable[SpiffeId]) -> AuthorizationPolicy:
    """The ALLOW policy that an inbound's ``allow`` is short for: these IDs, and no alias of them. With no ID it never
    matches.
    """
    name = f"inbound {listen} allow"
    place = Place("the sidecar's file", 1, name)
    ids = tuple(str(one).removeprefix(_SCHEME) for one in allow)
    rules = (Rule(place=place, sources=(Source(spiffe_ids=ids),)),) if ids else ()
    meta = Metadata(name=name, namespace=namespace, place=place)
    return AuthorizationPolicy(meta=meta, action=Action.ALLOW, rules=rules)
