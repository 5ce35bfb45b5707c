"""What the rules of AuthorizationPolicies ask for, by Istio's names of fields: for programs, and in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from meshtls.policy.istio.model import AuthorizationPolicy, Operation, Source
from meshtls.policy.istio.scope import policy_name

__all__ = ["Fields", "fields_of", "fields_words"]

#: ``from``, ``to`` and ``when`` of each rule, by the rule's name.
Fields = Mapping[str, Mapping[str, list[dict[str, Any]]]]


def fields_of(policies: Iterable[AuthorizationPolicy]) -> Fields:
    """Fields without a value are left out."""
    return {
        f"{policy_name(policy.meta)}-rule[{number}]": {
            "from": list(map(_written, rule.sources)),
            "to": list(map(_written, rule.operations)),
            "when": [
                {"key": one.key, **({"values": list(one.values)} if one.values else {}),
                 **({"notValues": list(one.not_values)} if one.not_values else {})}
                for one in rule.conditions
            ],
        }
        for policy in policies
        for number, rule in enumerate(policy.rules)
    }  # fmt: skip


def fields_words(rule: Mapping[str, list[dict[str, Any]]]) -> str:
    """All but ``principals``, which are shown expanded: ``to methods GET, paths /a or /b; when request.auth...``."""
    sources = [{name: value for name, value in one.items() if name != "principals"} for one in rule.get("from", ())]
    told = []
    if any(sources):
        told.append("from " + " | ".join(", ".join(_words(one)) or "the principals" for one in sources))
    if rule.get("to"):
        told.append("to " + " | ".join(", ".join(_words(one)) for one in rule["to"]))
    for one in rule.get("when", ()):
        values = {one["key"]: one.get("values", ()), f"not {one['key']}": one.get("notValues", ())}
        told.append("when " + ", ".join(_words({name: value for name, value in values.items() if value})))
    return "; ".join(told) or "-"


def _words(fields: Mapping[str, Iterable[str]]) -> Iterator[str]:
    return (f"{name} {' or '.join(values)}" for name, values in fields.items())


def _written(part: Source | Operation) -> dict[str, Any]:
    return {_camel(name): list(value) for name, value in msgspec.structs.asdict(part).items() if value}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
