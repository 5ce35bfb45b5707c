"""The parts that Istio's documents share: metadata, selectors and targetRefs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshtls.config.document import Section
from meshtls.policy.istio.fields import Field, Shape, Support, Table
from meshtls.policy.istio.fields_values import (
    CREATED,
    LABEL_KEY,
    LABEL_VALUE,
    NAME,
    NAMESPACE,
    STRING,
    TEXT,
)

__all__ = ["METADATA", "SELECTOR", "TARGET_REF", "TARGET_REFS", "one_scope"]

_BOOKKEEPING = (
    "uid", "resourceVersion", "generation", "managedFields", "selfLink", "generateName", "ownerReferences",
    "finalizers", "deletionTimestamp", "deletionGracePeriodSeconds", "clusterName",
)  # fmt: skip

METADATA = Table(
    "metadata",
    (
        Field("name", "Unique together with kind and namespace.", NAME, Shape.ONE, "name", required=True),
        Field("namespace", "Where the policy acts; the root one is the whole mesh.", NAMESPACE, Shape.ONE, "namespace"),
        Field("labels", "The document's own labels. Nothing selects by them.", LABEL_VALUE, Shape.MAP, "labels",
              Support.NO_EFFECT, key=LABEL_KEY, null=True),
        Field("annotations", "`istio.io/dry-run` makes an AuthorizationPolicy a shadow; others have no effect.", STRING,
              Shape.MAP, "annotations", key=TEXT, null=True),
        Field("creationTimestamp", "The oldest of several PeerAuthentications of one level is in force.", CREATED,
              Shape.ONE, "created", null=True),
        *(Field(name, "Kubernetes' own.", support=Support.NO_EFFECT, null=True) for name in _BOOKKEEPING),
    ),
    lambda place, **values: {"place": place, **values},
)  # fmt: skip

SELECTOR = Field(
    "selector",
    "The workloads that the policy is for; without it, all of its namespace.",
    Table(
        "selector",
        (
            Field(
                "matchLabels",
                "Each label must be the workload's. Empty is no selector.",
                LABEL_VALUE,
                Shape.MAP,
                "selector",
                key=LABEL_KEY,
            ),
        ),
        lambda place, selector=(): selector,
    ),
    attribute="selector",
)
_TARGET = Table(
    "targetRef",
    (
        Field("group", "The API group of the target.", STRING, Shape.ONE, "group", Support.NOT_ENFORCED),
        Field("kind", "Gateway, GatewayClass, Service or ServiceEntry.", TEXT, Shape.ONE, "kind", Support.NOT_ENFORCED,
              required=True),
        Field("name", "The target's name.", TEXT, Shape.ONE, "name", Support.NOT_ENFORCED, required=True),
        Field("namespace", "Istio takes no target in another namespace, and no value here.", STRING, Shape.ONE,
              "namespace", Support.REFUSED),
    ),
    lambda place, **values: True,
    (
        lambda section, values: [("kind", "wanted Gateway, GatewayClass, Service or ServiceEntry")]
        if values["kind"] not in ("Gateway", "GatewayClass", "Service", "ServiceEntry")
        else [],
    ),
)  # fmt: skip
_GATEWAYS = "A policy with it is for gateways and waypoints alone: a sidecar ignores the whole policy, as Istio's does."
TARGET_REF = Field("targetRef", f"The former form of `targetRefs`. {_GATEWAYS}", _TARGET, Shape.ONE, "target_ref",
                   Support.NOT_ENFORCED)  # fmt: skip
TARGET_REFS = Field("targetRefs", _GATEWAYS, _TARGET, Shape.LIST, "target_refs", Support.NOT_ENFORCED, most=16)


def one_scope(section: Section, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rule that only one of selector, targetRef and targetRefs may be given."""
    given = [one for one in ("selector", "targetRef", "targetRefs") if one in section.keys]
    if len(given) > 1:
        yield given[1], f"wanted one of selector and targetRefs, got {' and '.join(given)}"
