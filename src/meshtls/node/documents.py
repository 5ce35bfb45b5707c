"""Istio's documents in a policy message, as the policies of one server. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from meshtls.errors import ConfigError, RequestError
from meshtls.node.identity import named_by
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.model import Labels, MeshSettings
from meshtls.policy.istio.parse import DEFAULT_NAMESPACE, parse_documents
from meshtls.policy.workloads import workload_of
from meshtls.sidecar.policies import PolicySet
from meshtls.spiffeid import SpiffeId

__all__ = ["policies_in"]

_FILE = "documents"
_MOST_TOLD = 5


def policies_in(
    given: str | Mapping[str, Any] | Sequence[Mapping[str, Any]], server: SpiffeId, labels: Labels
) -> PolicySet:
    """The policies for ``server``: YAML, a document as an object, or a list of these.

    A document without a namespace is in the server's. Raises RequestError for what can't be read, or has no effect.
    """
    namespace = named_by(server).namespace or DEFAULT_NAMESPACE
    if isinstance(given, str):
        texts = [(_FILE, given)]
    else:
        objects = [given] if isinstance(given, Mapping) else given
        texts = [(f"{_FILE}[{number}]", json.dumps(one)) for number, one in enumerate(objects)]
    mesh = MeshSettings(trust_domain=server.trust_domain.name)
    workload = workload_of(server, labels, namespace)
    try:
        documents = parse_documents(texts, default_namespace=namespace)
        compile_policies(documents, mesh, workload)
    except ConfigError as error:
        raise RequestError("; ".join(error.problems[:_MOST_TOLD])) from error
    others = (*documents.request_authentications, *documents.destination_rules)
    if others or not (documents.authorization_policies or documents.peer_authentications):
        found = ", ".join(dict.fromkeys(type(one).__name__ for one in others)) or "none"
        raise RequestError(f"documents: wanted AuthorizationPolicy and PeerAuthentication documents, got {found}")
    return PolicySet(documents=documents, mesh=mesh, workload=workload)
