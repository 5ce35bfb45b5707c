"""The parts of a request that carry tokens: a header, a parameter of the query or a cookie. Pure.

Where a parameter or a cookie occurs several times, each one counts: an app may read any of them. A header with a token
has nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus

import msgspec

from meshtls.policy.istio.model import JwtRule, TokenHeader
from meshtls.wire.http import HttpRequest
from meshtls.wire.http_rules import latin_1

__all__ = ["Carrier", "Carriers", "without_carriers"]

_DEFAULT_HEADERS = (TokenHeader(name="authorization", prefix="Bearer "),)
_DEFAULT_PARAMS = ("access_token",)


@dataclass(frozen=True, slots=True)
class Carrier:
    """One part of a request. ``candidates`` are the rules that look there, by index, each with the text that it takes
    for a token: rules may strip different prefixes.

    ``position`` is the place among the headers, and among the cookies of one; or among the parameters of the query.
    """

    where: str
    position: tuple[int, ...]
    candidates: tuple[tuple[int, str], ...]


class Carriers:
    """Where a workload's rules look for tokens: by the name of a header, a parameter and a cookie."""

    __slots__ = ("_cookies", "_headers", "_params")

    def __init__(self, rules: Sequence[JwtRule]) -> None:
        self._headers: dict[str, list[tuple[int, TokenHeader]]] = {}
        self._params: dict[str, list[int]] = {}
        self._cookies: dict[str, list[int]] = {}
        for number, rule in enumerate(rules):
            is_told = bool(rule.from_headers or rule.from_params or rule.from_cookies)
            for place in rule.from_headers if is_told else _DEFAULT_HEADERS:
                self._headers.setdefault(place.name.lower(), []).append((number, place))
            for name in rule.from_params if is_told else _DEFAULT_PARAMS:
                self._params.setdefault(name, []).append(number)
            for name in dict.fromkeys(rule.from_cookies):
                self._cookies.setdefault(latin_1(name), []).append(number)

    def find(self, request: HttpRequest) -> tuple[Carrier, ...]:
        """Every part of the request in which one of the rules looks for a token: cookies, headers, then the query."""
        found: list[Carrier] = []
        lines: dict[str, list[tuple[int, str]]] = {}
        for index, (name, value) in enumerate(request.headers):
            if name in self._headers:
                lines.setdefault(name, []).append((index, value))
            if name == "cookie" and self._cookies:
                found += self._in_cookies(index, value)
        for name, values in lines.items():
            found += self._in_header(self._headers[name], values)
        if self._params and "?" in request.path:
            found += self._in_query(request.path.partition("?")[2])
        return tuple(found)

    def _in_header(
        self, places: Sequence[tuple[int, TokenHeader]], values: Sequence[tuple[int, str]]
    ) -> Iterator[Carrier]:
        """``values`` are the header's lines, by index. Envoy and some apps join several (RFC 9110, section 5.3); what
        they say together is no token.
        """
        texts = [(number, _token_in(place, value)) for _, value in values for number, place in places]
        candidates = tuple((number, text) for number, text in texts if text is not None)
        if candidates and len(values) > 1:
            joined = ", ".join(value for _, value in values)
            candidates = tuple((number, joined) for number, _ in places)
        if candidates:
            yield Carrier("header", (values[0][0],), candidates)

    def _in_cookies(self, index: int, value: str) -> Iterator[Carrier]:
        for place, pair in enumerate(value.split(";")):
            name, _, text = pair.partition("=")
            rules = self._cookies.get(name.strip(" \t"), ())
            if rules:
                yield Carrier("cookie", (index, place), tuple((number, text.strip(' \t"')) for number in rules))

    def _in_query(self, query: str) -> Iterator[Carrier]:
        for place, pair in enumerate(query.split("&")):
            name, _, text = pair.partition("=")
            rules = self._params.get(unquote_plus(name) if "%" in name or "+" in name else name, ())
            if rules:
                yield Carrier("query", (place,), tuple((number, unquote_plus(text)) for number in rules))


def without_carriers(request: HttpRequest, carriers: Collection[Carrier]) -> HttpRequest:
    """The request without these parts of it, which ``Carriers.find`` found in it."""
    positions = {one.position for one in carriers if one.where != "query"}
    headers = []
    for index, (name, value) in enumerate(request.headers):
        if (index,) in positions:
            continue
        cookies = value.split(";")
        kept = [one for place, one in enumerate(cookies) if (index, place) not in positions]
        if len(kept) == len(cookies):
            headers.append((name, value))
        elif kept:
            headers.append((name, ";".join(kept).lstrip(" ")))
    params = {one.position[0] for one in carriers if one.where == "query"}
    path, mark, query = request.path.partition("?")
    if params:
        left = [one for place, one in enumerate(query.split("&")) if place not in params]
        mark, query = ("?", "&".join(left)) if left else ("", "")
    return msgspec.structs.replace(request, path=f"{path}{mark}{query}", headers=tuple(headers))


def _token_in(place: TokenHeader, value: str) -> str | None:
    """The text after the prefix, None without it. The case of a scheme's name is not significant (RFC 9110, 11.1).

    If something is before the prefix, as in a list of several credentials, the whole value, which is no token: Envoy
    takes what follows for one, and so may an app.
    """
    value, prefix, whole = value.strip(" \t"), latin_1(place.prefix.rstrip(" ")), latin_1(place.prefix)
    compared = value
    if place.name.lower() == "authorization":
        prefix, whole, compared = prefix.lower(), whole.lower(), value.lower()
    rest = value[len(prefix) :]
    if compared.startswith(prefix) and not (place.prefix.endswith(" ") and rest and rest[0] not in " \t"):
        return rest.strip(" \t")
    return value if whole in compared else None
