"""What a sidecar serves, as one frozen value: its routes, who may use them, and where its trust comes from. Pure.

Today a view is made from a file (``view_of``). A sidecar runs from a view, wherever it comes from (``Sidecar.apply``):
it binds, reconfigures and closes its listeners by the ``changes`` between the view in use and the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, TypeVar

import msgspec

from meshtls.address import Address
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.sidecar.policies import ListenerPolicies, PolicySet, allow_policy
from meshtls.sidecar.settings import InboundConfig, Mode, OutboundConfig, SidecarConfig
from meshtls.spiffeid import SpiffeId
from meshtls.workload.address import Address as WorkloadAddress

__all__ = [
    "POLICIES",
    "Change",
    "MeshView",
    "Policy",
    "RouteChange",
    "Routes",
    "ViewChanges",
    "changes",
    "compiled_rules",
    "rules_of",
    "view_of",
    "with_view",
]

#: The key that differs, in words, where policies do.
POLICIES = "policies"
R = TypeVar("R", InboundConfig, OutboundConfig)


class Policy(msgspec.Struct, frozen=True):
    """Who may come through one inbound route: these SPIFFE IDs, and with ``plaintext`` peers that prove none.

    ``rules``, where there are any, decide instead. ``allow`` is one of them.
    """

    allow: tuple[SpiffeId, ...] = ()
    plaintext: bool = False
    rules: ListenerPolicies | None = None

    @property
    def compiled(self) -> WorkloadPolicies | None:
        """The rules, compiled at the first call, which may take seconds: see ``compiled_rules``. Raises ConfigError."""
        return None if self.rules is None else self.rules.compiled


class Routes(msgspec.Struct, frozen=True):
    """Each has a listener of its own. ``allow`` of an inbound route is empty: see ``MeshView.policies``."""

    inbound: tuple[InboundConfig, ...] = ()
    outbound: tuple[OutboundConfig, ...] = ()


class MeshView(msgspec.Struct, frozen=True):
    """What a sidecar serves: routes, policies and the place that trust comes from. ``policies`` are those of
    ``routes.inbound``, in its order; the policy of an outbound route is its ``peer``.

    ``generation`` increases. ``trust`` is the Workload API that identity and bundles come from; None is the source that
    the sidecar was made with. Raises ValueError if a route has no policy.
    """

    generation: int = 0
    routes: Routes = Routes()
    policies: tuple[Policy, ...] = ()
    trust: WorkloadAddress | None = None

    def __post_init__(self) -> None:
        if len(self.policies) != len(self.routes.inbound):
            raise ValueError(
                f"wanted a policy for each of {len(self.routes.inbound)} inbound routes, got {len(self.policies)}"
            )


class Change(Enum):
    """What a new view does with a route."""

    KEPT = "kept"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


class RouteChange(NamedTuple):
    """A route that two views differ in. ``old`` and ``new`` are the route's indices in the two views, None if it is not
    in one; ``keys`` differ.
    """

    listen: Address
    old: int | None
    new: int | None
    keys: tuple[str, ...] = ()

    @property
    def change(self) -> Change:
        if self.old is None:
            return Change.ADDED
        if self.new is None:
            return Change.REMOVED
        return Change.CHANGED if self.keys else Change.KEPT


class ViewChanges(NamedTuple):
    """Every route of the new view in its order, then the removed ones."""

    inbound: tuple[RouteChange, ...] = ()
    outbound: tuple[RouteChange, ...] = ()
    trust: bool = False


Rules = tuple[ListenerPolicies | None, ...]
"""Those of each inbound, in the order of the file."""


def view_of(config: SidecarConfig, generation: int = 1, rules: Rules | None = None) -> MeshView:
    """The view of a file's configuration. ``rules``: what ``compiled_rules`` made of it, if it was called before."""
    if rules is None:
        rules = tuple(_rules(config, one) for one in config.inbound)
    return MeshView(
        generation=generation,
        routes=Routes(tuple(msgspec.structs.replace(one, allow=()) for one in config.inbound), config.outbound),
        policies=tuple(
            Policy(one.allow, one.mode is not Mode.STRICT, own) for one, own in zip(config.inbound, rules, strict=True)
        ),
        trust=config.workload_api,
    )


def compiled_rules(config: SidecarConfig, in_use: MeshView | None = None) -> Rules:
    """The policies of each inbound, compiled. With thousands of policies that takes seconds: call it in a thread.

    Those of the view in use are taken where they are made of the same. Raises ConfigError.
    """
    known = [one.rules for one in in_use.policies if one.rules is not None] if in_use is not None else []
    found: list[ListenerPolicies | None] = []
    for one in config.inbound:
        own = _rules(config, one)
        if own is not None:
            own = next((old for old in known if old == own), own)
            own.compiled  # noqa: B018  # it may raise
            known.append(own)
        found.append(own)
    return tuple(found)


def _rules(config: SidecarConfig, inbound: InboundConfig) -> ListenerPolicies | None:
    return None if config.policies is None else rules_of(config.policies, inbound)


def rules_of(given: PolicySet, inbound: InboundConfig) -> ListenerPolicies:
    """These policies, and the inbound's ``allow`` as one more of them."""
    extra = allow_policy(given.workload.namespace, inbound.listen, inbound.allow)
    by_allow = inbound.allow_given and inbound.mode is not Mode.DISABLE
    return ListenerPolicies(given, [extra] if by_allow else [])


def with_view(config: SidecarConfig, view: MeshView) -> SidecarConfig:
    """The same configuration with the routes and policies of a view.

    ``view_of`` gives them back, unless a policy's ``plaintext`` differs from what its route's ``mode`` says, or its
    ``rules`` from the configuration's policies.
    """
    inbound = tuple(
        msgspec.structs.replace(route, allow=policy.allow)
        for route, policy in zip(view.routes.inbound, view.policies, strict=True)
    )
    return msgspec.structs.replace(config, inbound=inbound, outbound=view.routes.outbound)


def changes(old: MeshView, new: MeshView) -> ViewChanges:
    """What differs. A route is identified by its listening address or, if several routes have the same (port 0), by
    their order.
    """
    inbound = [one._replace(keys=_keys(one, old, new)) for one in _matched(old.routes.inbound, new.routes.inbound)]
    outbound = _matched(old.routes.outbound, new.routes.outbound)
    return ViewChanges(tuple(inbound), tuple(outbound), old.trust != new.trust)


def _matched(old: Sequence[R], new: Sequence[R]) -> list[RouteChange]:
    free = list(range(len(old)))
    found = []
    for at, route in enumerate(new):
        place = next((place for place in free if old[place].listen == route.listen), None)
        keys: tuple[str, ...] = ()
        if place is not None:
            free.remove(place)
            before = old[place]
            keys = tuple(name for name in before.__struct_fields__ if getattr(before, name) != getattr(route, name))
        found.append(RouteChange(route.listen, place, at, keys))
    return found + [RouteChange(old[place].listen, place, None) for place in free]


def _keys(change: RouteChange, old: MeshView, new: MeshView) -> tuple[str, ...]:
    """The keys of a file that differ, in its order: ``allow`` is the policy's, and ``plaintext`` is the mode's."""
    if change.old is None or change.new is None:
        return ()
    before, after = old.policies[change.old], new.policies[change.new]
    differing = {
        *change.keys,
        *(["allow"] if before.allow != after.allow else []),
        *(["mode"] if before.plaintext != after.plaintext else []),
        *([POLICIES] if before.rules != after.rules else []),
    }
    return tuple(field for field in (*InboundConfig.__struct_fields__, POLICIES) if field in differing)
