"""Policies whose verdict depends on what an access log does not have: the most and the least that they may allow. Pure.

A rule that asks for a header, a token, a server name or the address that was connected to may match a recorded request
or not. With all such questions answered in favour of the caller, and with all answered against it, the verdicts are
equal if it depends on none of them.
"""

from __future__ import annotations

from msgspec.structs import replace

from meshtls.policy.istio.model import Action, AuthorizationPolicy, Condition, Documents, Rule, Source

__all__ = ["bounds"]

#: Matches nobody: plaintext has no principal, and everybody else has one.
_NOBODY = Source(principals=("*",), not_principals=("*",))
_OF_CONNECTION = ("connection.sni", "destination.ip")
#: These are in the log.
_RECORDED = tuple(f"request.headers[{name}]" for name in ("host", ":authority", ":method"))


def bounds(documents: Documents, *, http: bool) -> tuple[Documents, Documents] | None:
    """The documents that allow the most, and those that allow the least. None if all that they ask for is known.

    ``http``: for HTTP requests. A connection is asked for less.
    """
    most = tuple(_bound(one, http, Action.ALLOW) for one in documents.authorization_policies)
    if most == documents.authorization_policies:
        return None
    least = tuple(_bound(one, http, Action.DENY) for one in documents.authorization_policies)
    return replace(documents, authorization_policies=most), replace(documents, authorization_policies=least)


def _bound(policy: AuthorizationPolicy, http: bool, matching: Action) -> AuthorizationPolicy:
    """The policy with what is not known taken to match if its action is ``matching``, and not to match otherwise."""
    if policy.action not in (Action.ALLOW, Action.DENY):
        return policy
    rules = tuple(_bound_rule(rule, http, policy.action is matching) for rule in policy.rules)
    return replace(policy, rules=rules)


def _bound_rule(rule: Rule, http: bool, matches: bool) -> Rule:
    sources = tuple(_bound_source(one, matches) if http else one for one in rule.sources)
    known = tuple(one for one in rule.conditions if _is_known(one, http))
    if len(known) == len(rule.conditions):
        return replace(rule, sources=sources)
    if not matches:
        return replace(rule, sources=(_NOBODY,))
    return replace(rule, sources=sources, conditions=known)


def _bound_source(source: Source, matches: bool) -> Source:
    if not source.request_principals and not source.not_request_principals:
        return source
    return replace(source, request_principals=(), not_request_principals=()) if matches else _NOBODY


def _is_known(condition: Condition, http: bool) -> bool:
    key = condition.key
    if key in _OF_CONNECTION:
        return False
    asks_request = key.startswith(("request.headers[", "request.auth."))
    return not http or not asks_request or key.lower() in _RECORDED
