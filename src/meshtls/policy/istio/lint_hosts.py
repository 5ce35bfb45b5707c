"""Hosts of a rule that a client passes by naming the same host in another way: with a port, or a last dot. Pure.

Hosts are compared with the whole Host field, port included, as Istio's are. An ALLOW rule's ``hosts`` fails closed by
that; what denies, what asks a provider, and what an ALLOW rule excludes lets the other spellings through.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.policy.istio.lint_finding import Finding, Severity
from meshtls.policy.istio.match import Strings
from meshtls.policy.istio.model import Action, AuthorizationPolicy
from meshtls.scalars import shown
from meshtls.wire.http_rules import has_port, is_host

__all__ = ["findings_of_hosts", "host_problem"]

#: Stands for the text that a star matches, and for the port of a client's choice.
_ANY, _PORT = "x", ":1"
#: What may stand in the place of a star so that the whole is a host: of a name, an address or a port.
_BEFORE, _AFTER = ("", "x", "x:", "[::", "[::]:"), ("", "x", "1", ":]", "1]")
_EFFECTS = {Action.DENY: "is not denied", Action.CUSTOM: "is not asked about"}


def findings_of_hosts(policy: AuthorizationPolicy) -> Iterator[Finding]:
    """The findings on the hosts of this policy's rules, in their order."""
    for rule in policy.rules:
        for number, one in enumerate(rule.operations):
            place = rule.place.below(f"to[{number}].operation")
            named = [("hosts", one.hosts, _EFFECTS[policy.action])] if policy.action in _EFFECTS else []
            if policy.action is Action.ALLOW:
                named.append(("notHosts", one.not_hosts, "is not excluded"))
            for name, values, effect in named:
                matched = Strings([value.lower() for value in values])
                for value in values:
                    if missed := _missed(value, matched):
                        text = (
                            f"{shown(value)} in {name} is compared with the whole Host field: a request for the same"
                            f" host {_spelled(missed)} {effect}; {_advice(value, missed)}"
                        )
                        yield Finding(Severity.WARNING, "host-passed-by", place, text)


def _missed(value: str, matched: Strings) -> tuple[str, ...]:
    """What may follow this name in a Host field that none of the rule's values matches."""
    name = value.lower().removesuffix(".")
    if host_problem(value):
        return ()
    if name.endswith("*") or has_port(name.replace("*", _ANY)):
        return ()
    endings = (":*",) if name.startswith("[") else (":*", ".", ".:*")
    host = name.replace("*", _ANY)
    return tuple(one for one in endings if not matched.matches(f"{host}{one.replace(':*', _PORT)}"))


def _spelled(missed: tuple[str, ...]) -> str:
    ways = ["with a port"] if ":*" in missed else []
    ways += ["with a last dot"] if "." in missed else []
    return " or ".join(ways) or "with a last dot and a port"


def _advice(value: str, missed: tuple[str, ...]) -> str:
    name = value.removesuffix(".")
    if name.startswith("*"):
        return "no pattern has a star at both ends, so name each host, or allow the hosts that are wanted instead"
    return f"write also {', '.join(shown(f'{name}{one}') for one in missed)}"


def host_problem(pattern: str) -> str:
    """Why no Host field of a request that is judged matches this value; empty if one can."""
    samples: tuple[str, ...] = (pattern,)
    if pattern == "*":
        return ""
    if pattern.startswith("*"):
        samples = tuple(f"{one}{pattern[1:]}" for one in _BEFORE)
    elif pattern.endswith("*"):
        samples = tuple(f"{pattern[:-1]}{one}" for one in _AFTER)
    if any(map(is_host, samples)):
        return ""
    name = pattern.rpartition("://")[2].partition("/")[0]
    if is_host(name):
        advice = f"; write {shown(name)}"
    elif not pattern.isascii():
        advice = "; write a name outside ASCII as clients send it, which begins with xn--"
    else:
        advice = ""
    return f"a request is refused whose Host is no name or address, with or without a port{advice}"
