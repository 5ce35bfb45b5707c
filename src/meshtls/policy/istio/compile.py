"""Compiles documents to the policies of one workload. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from meshtls.errors import ConfigError, InvalidSpiffeIdError
from meshtls.policy.istio.evaluate import Ruleset, WorkloadPolicies
from meshtls.policy.istio.model import Action, AuthorizationPolicy, Documents, MeshSettings, Workload
from meshtls.policy.istio.modes import resolve_modes
from meshtls.policy.istio.rules import CompiledRule, compile_rules
from meshtls.policy.istio.scope import applying_policies, jwt_rules_of, policy_name
from meshtls.scalars import shown
from meshtls.spiffeid import TrustDomain

__all__ = ["compile_policies"]


def compile_policies(documents: Documents, mesh: MeshSettings, workload: Workload) -> WorkloadPolicies:
    """The policies that apply to this workload, indexed.

    It takes some 0.1 ms for each rule, and half of that for one that was compiled before in this process, as those of
    documents that did not change. All of it is done here, nothing is left to the first decision, so that a thread may
    do it while another one decides.

    Raises ConfigError with every value that has no meaning, and for a DENY or CUSTOM policy without rules, or a CUSTOM
    policy without a provider: to skip one would let somebody in. So it does for an alias of the mesh's trust domain
    that is no trust domain.
    """
    if wrong := [*filter(None, map(_bad_alias, mesh.trust_domain_aliases))]:
        raise ConfigError(*wrong)
    policies = applying_policies(documents.authorization_policies, workload, mesh)
    incomplete = [*map(_incomplete, policies)]
    if any(incomplete):
        raise ConfigError(*filter(None, incomplete))
    rules = compile_rules(policies, mesh)
    enforced = [one for one in rules if not one.dry_run]
    proposed = None
    if any(one.dry_run and one.action in (Action.DENY, Action.ALLOW) for one in policies):
        proposed = _ruleset(policies, rules)
    return WorkloadPolicies(
        _ruleset([one for one in policies if not one.dry_run], enforced),
        [one for one in enforced if one.action is Action.CUSTOM],
        [one for one in enforced if one.action is Action.AUDIT],
        proposed,
        [one for one in rules if one.action is Action.CUSTOM and one.dry_run],
        resolve_modes(documents.peer_authentications, workload, mesh),
        jwt_rules_of(documents, workload, mesh),
        mesh.normalization,
    )


def _ruleset(policies: Iterable[AuthorizationPolicy], rules: Iterable[CompiledRule]) -> Ruleset:
    allow = [one for one in policies if one.action is Action.ALLOW]
    return Ruleset(rules, has_allow=bool(allow), empty=tuple(policy_name(one.meta) for one in allow if not one.rules))


def _incomplete(policy: AuthorizationPolicy) -> str | None:
    if policy.action in (Action.DENY, Action.CUSTOM) and not policy.rules:
        return (
            f"{policy.meta.place}: wanted rules for {policy.action.value}, got none; 'rules: [{{}}]' matches everything"
        )
    if policy.action is Action.CUSTOM and not policy.provider:
        return f"{policy.meta.place}: wanted a provider for CUSTOM, got none"
    return None


def _bad_alias(alias: str) -> str | None:
    try:
        TrustDomain(alias)
    except InvalidSpiffeIdError:
        return (
            f"trust domain alias {shown(alias)}: wanted the name of one trust domain, without a star: Istio's '*-td'"
            " would also match IDs of other trust domains, and text in the middle of an ID; list each alias by its name"
        )
    return None
