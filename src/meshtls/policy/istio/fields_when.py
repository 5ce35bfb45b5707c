"""The keys of ``when``, with the values that each takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshtls.config.document import Items, Place, Section
from meshtls.errors import RequestError
from meshtls.policy.istio.fields import Field, Shape, Support, Table, Value
from meshtls.policy.istio.fields_values import (
    HEADER,
    IP_BLOCK,
    NAMESPACE_PATTERN,
    PATTERN,
    PORT,
    PRINCIPAL,
    SERVICE_ACCOUNT,
    TEXT,
    TRUST_DOMAIN_IN_WHEN,
)
from meshtls.policy.istio.model import Condition
from meshtls.scalars import shown

__all__ = ["HTTP_KEYS", "WHEN", "WHEN_KEYS", "WhenKey", "when_key"]


@dataclass(frozen=True, slots=True)
class WhenKey:
    """One key of a rule's ``when``. ``name`` ends with ``[]`` if the key has names in brackets. ``http``: only an HTTP
    request has it.
    """

    name: str
    meaning: str
    values: Value
    http: bool = False
    support: Support = Support.ENFORCED


WHEN_KEYS = (
    # A header's value and a claim's may have stars of their own, such as `text/*; q=0.5`.
    WhenKey(
        "request.headers[]",
        "The header of this name. If it was sent several times, what allows has to match each line of it, and what"
        " denies any line, or the lines joined by commas. Also `:authority`, `:method`, and `:path` with its query.",
        TEXT,
        http=True,
    ),
    WhenKey("source.ip", "As `ipBlocks`.", IP_BLOCK),
    WhenKey("source.namespace", "As `namespaces`.", NAMESPACE_PATTERN),
    WhenKey("source.serviceAccount", "As `serviceAccounts`.", SERVICE_ACCOUNT),
    WhenKey("source.principal", "As `principals`.", PRINCIPAL),
    WhenKey("source.trustDomain", "As `trustDomains`.", TRUST_DOMAIN_IN_WHEN),
    WhenKey("remote.ip", "As `remoteIpBlocks`.", IP_BLOCK),
    WhenKey("request.auth.principal", "As `requestPrincipals`.", PATTERN, http=True),
    WhenKey("request.auth.audiences", "The token's `aud`.", PATTERN, http=True),
    WhenKey("request.auth.presenter", "The token's `azp`.", PATTERN, http=True),
    WhenKey("request.auth.claims[]", "A claim of the token; `[a][b]` is a claim within a claim.", TEXT, http=True),
    WhenKey("destination.ip", "The address of ours that was connected to.", IP_BLOCK),
    WhenKey("destination.port", "As `ports`.", PORT),
    WhenKey("connection.sni", "The server name in the peer's ClientHello, which the peer chooses.", PATTERN),
    WhenKey(
        "experimental.envoy.filters.",
        "What an Envoy filter says: there is no Envoy here.",
        TEXT,
        support=Support.REFUSED,
    ),
)
HTTP_KEYS = tuple(one.name.removesuffix("[]") for one in WHEN_KEYS if one.http)
_BY_NAME = {one.name: one for one in WHEN_KEYS}
_FORMER = {
    "destination.namespace": "metadata.namespace says the same",
    "destination.labels": "a selector says the same",
    "destination.name": "a selector says the same",
    "destination.user": "a selector says the same",
}
#: Of a request of HTTP/1.1, too, as in Envoy.
_PSEUDO = (":authority", ":method", ":path")
_BRACKETS = re.compile(r"(request\.headers|request\.auth\.claims)((?:\[[^\[\]]+\])+)")


def when_key(text: str) -> WhenKey:
    """What this key stands for. Raises RequestError for an unknown one."""
    if found := _BRACKETS.fullmatch(text):
        key = _BY_NAME[f"{found[1]}[]"]
        if found[1] == "request.headers":
            _check_header(found[2][1:-1])
        return key
    if text.startswith(("request.headers", "request.auth.claims")):
        raise RequestError(f"wanted a name in brackets, such as request.headers[x-tenant], got {shown(text)}")
    if text.startswith("experimental."):
        raise RequestError(f"wanted a key that is known here, got {shown(text)}: it is Envoy's own")
    if former := _FORMER.get(text.partition("[")[0]):
        raise RequestError(f"the key {shown(text)} is of v1alpha1; {former}")
    if text not in _BY_NAME:
        known = ", ".join(one.name for one in WHEN_KEYS if one.support is Support.ENFORCED)
        raise RequestError(f"unknown key {shown(text)}; wanted one of {known}")
    return _BY_NAME[text]


def _check_header(name: str) -> None:
    if name.startswith(":") and name.lower() not in _PSEUDO:
        raise RequestError(f"wanted a header, or {', '.join(_PSEUDO[:-1])} or {_PSEUDO[-1]}, got {shown(name)}")
    if not name.startswith(":"):
        HEADER.parse(name)


def _key(text: str) -> str:
    when_key(text)
    return text


def _values_fit(section: Section, values: Mapping[str, Any]) -> Iterator[tuple[str | Place, str]]:
    if not values.get("values") and not values.get("not_values"):
        yield "", "wanted values or notValues, got neither"
    kind = when_key(values["key"]).values
    for name, attribute in (("values", "values"), ("notValues", "not_values")):
        node = section.keys.get(name)
        for item, text in zip(node.items if isinstance(node, Items) else (), values.get(attribute, ()), strict=True):
            try:
                kind.parse(text)
            except RequestError as error:
                yield item.place, str(error)


WHEN = Table(
    "condition",
    (
        Field("key", "What is compared; see below.", Value("a key", _key), Shape.ONE, "key", required=True),
        Field("values", "One of them must match.", TEXT, Shape.LIST, "values"),
        Field("notValues", "None of them may match.", TEXT, Shape.LIST, "not_values"),
    ),
    lambda place, **values: Condition(**values),
    (_values_fit,),
)
