"""The clauses of a rule: each field of a source, an operation or a condition, compiled to a test of facts. Pure.

A clause says one thing, so a field with values and one with ``not`` values are two. An address or a port that is not
known matches what denies and nothing that allows, be it wanted or excluded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from meshtls.errors import RequestError
from meshtls.policy.istio.facts import ConnectionFacts, HttpFacts
from meshtls.policy.istio.match import (
    Accounts,
    Domains,
    Ip,
    Key,
    KeyKind,
    Namespaces,
    Networks,
    Part,
    Ports,
    RequestPrincipals,
    Strings,
    accounts_of,
    expand_domains,
    expand_principals,
    namespaces_of,
    segments_after_ns,
)
from meshtls.policy.istio.model import Condition, MeshSettings, Operation, Source
from meshtls.policy.istio.paths import Paths, is_template, parts_of
from meshtls.scalars import plain_or_shown, shown
from meshtls.wire.http_rules import latin_1

__all__ = ["Anchor", "Clause", "Dialect", "Term", "condition_term", "header_of", "operation_term", "source_term"]

F = TypeVar("F", ConnectionFacts, HttpFacts)
#: What an index looks up; None is a value that is not known.
Probe = Callable[[Any], Sequence[str | Ip | Part] | None]
_MOST_SHOWN = 4
#: Clauses, and fields of conditions, that are kept: rules that say the same share one, and so a processor's cache.
_MOST_SHARED = 4096
#: A clause that excludes more values than this is not divided.
_MOST_DIVIDED = 16


class Anchor(NamedTuple):
    """By what an index finds the rule of a clause that wants something. One ``name`` has one ``probe``, and one
    ``single``: a getter of the only text that ``probe`` looks up, None where nothing is to be found.

    ``unknown``: a value that is not known, for which ``probe`` gives None, may match; otherwise it never does.
    """

    name: str
    http: bool
    probe: Probe
    keys: tuple[Key, ...]
    single: Callable[[Any], str | None] | None = None
    unknown: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Clause(Generic[F]):
    """``field`` is as in the document; ``came`` says what the facts have in its place.

    ``parts`` are clauses that exclude one of the values each, all of which match where this one does: rules with
    different lists often exclude a value that is the same.
    """

    field: str
    wanted: tuple[str, ...]
    negative: bool
    http: bool
    test: Callable[[F], bool]
    came: Callable[[F], str]
    anchors: tuple[Anchor, ...]
    parts: tuple[Clause[F], ...] = ()

    def explain(self, facts: F) -> str:
        """Why it matches, or does not: what was wanted, and what came."""
        listed = ", ".join(map(plain_or_shown, self.wanted[:_MOST_SHOWN]))
        if len(self.wanted) > _MOST_SHOWN:
            listed += f" and {len(self.wanted) - _MOST_SHOWN} more"
        return f"{self.field}: wanted {'none of ' if self.negative else ''}{listed}, got {self.came(facts)}"


class Term(NamedTuple):
    """Clauses all of which have to match."""

    connection: tuple[Clause[ConnectionFacts], ...] = ()
    http: tuple[Clause[HttpFacts], ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a field's meaning depends on: the mesh, the policy's namespace, and whether a match denies."""

    mesh: MeshSettings
    namespace: str
    denies: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Field(Generic[F]):
    """A kind of clause: ``build`` turns values into a test and the keys that an index finds them by.

    ``expand`` gives the values as they are matched. ``single`` is as of ``Anchor``. ``every`` is ``build`` for a field
    that may come several times, where each of its values has to match. ``further`` are anchors beside that of the keys.
    """

    name: str
    http: bool
    probe: Probe
    came: Callable[[F], str]
    build: Callable[[tuple[str, ...], Dialect], tuple[Callable[[F], bool], tuple[Key, ...] | None]]
    expand: Callable[[tuple[str, ...], MeshSettings], tuple[str, ...]] = lambda values, mesh: values
    known: Callable[[F], bool] | None = None
    every: Callable[[tuple[str, ...], Dialect], tuple[Callable[[F], bool], tuple[Key, ...] | None]] | None = None
    single: Callable[[F], str | None] | None = None
    further: Callable[[tuple[str, ...]], tuple[Anchor, ...]] = lambda values: ()


def source_term(source: Source, dialect: Dialect) -> Term:
    """Raises RequestError for a value that is invalid."""
    return _term(_source_clauses(source, dialect))


def operation_term(operation: Operation, dialect: Dialect) -> Term:
    """Raises RequestError for a value that is invalid."""
    return _term(_operation_clauses(operation, dialect))


def condition_term(conditions: Iterable[Condition], dialect: Dialect) -> Term:
    """Raises RequestError for a key that is unknown, or a value that is invalid."""
    return _term(
        clause
        for one in conditions
        for clause in _clauses(
            _condition_field(one.key), f"when {plain_or_shown(one.key)}", one.values, one.not_values, dialect
        )
    )


def _source_clauses(source: Source, dialect: Dialect) -> Iterator[Clause[Any]]:
    for field, name, values, not_values in (
        (_SPIFFE_ID, "principals", source.spiffe_ids, ()),
        (_PRINCIPAL, "principals", source.principals, source.not_principals),
        (_REQUEST_PRINCIPAL, "requestPrincipals", source.request_principals, source.not_request_principals),
        (_NAMESPACE, "namespaces", source.namespaces, source.not_namespaces),
        (_ACCOUNT, "serviceAccounts", source.service_accounts, source.not_service_accounts),
        (_DOMAIN, "trustDomains", source.trust_domains, source.not_trust_domains),
        (_SOURCE_IP, "ipBlocks", source.ip_blocks, source.not_ip_blocks),
        (_REMOTE_IP, "remoteIpBlocks", source.remote_ip_blocks, source.not_remote_ip_blocks),
    ):
        if values or not_values:
            yield from _clauses(field, f"source.{name}", values, not_values, dialect)


def _operation_clauses(operation: Operation, dialect: Dialect) -> Iterator[Clause[Any]]:
    for field, name, values, not_values in (
        (_HOST, "hosts", operation.hosts, operation.not_hosts),
        (_PORT, "ports", operation.ports, operation.not_ports),
        (_METHOD, "methods", operation.methods, operation.not_methods),
        (_PATH, "paths", operation.paths, operation.not_paths),
    ):
        if values or not_values:
            yield from _clauses(field, f"operation.{name}", values, not_values, dialect)


def _term(clauses: Iterable[Clause[Any]]) -> Term:
    found = tuple(clauses)
    return Term(tuple(one for one in found if not one.http), tuple(one for one in found if one.http))


def _clauses(
    field: _Field[Any], name: str, values: tuple[str, ...], not_values: tuple[str, ...], dialect: Dialect
) -> Iterator[Clause[Any]]:
    if values:
        yield _clause(field, name, values, False, dialect)
    if not_values:
        # ``source.ipBlocks`` becomes ``source.notIpBlocks``; a condition's key stays.
        place, _, last = name.rpartition(".")
        negated = name if name.startswith("when ") else f"{place}.not{last[0].upper()}{last[1:]}"
        yield _clause(field, negated, not_values, True, dialect)


@lru_cache(maxsize=_MOST_SHARED)
def _clause(field: _Field[Any], label: str, given: tuple[str, ...], negative: bool, dialect: Dialect) -> Clause[Any]:
    wanted = field.expand(given, dialect.mesh)
    # What lets a request in has to be so of each value that came; what keeps it out, of any of them.
    lets_in = dialect.denies is negative
    build = field.every if lets_in and field.every is not None else field.build
    try:
        test, keys = build(wanted, dialect)
    except RequestError as error:
        raise RequestError(f"{label}: {error}") from error
    anchors = () if negative else tuple(_anchors(field, wanted, keys, dialect))
    tested = _test(test, field.known, negative, dialect.denies)
    parts: tuple[Clause[Any], ...] = ()
    if negative and 1 < len(given) <= _MOST_DIVIDED:
        parts = tuple(_clause(field, label, (one,), negative, dialect) for one in given)
    return Clause(label, wanted, negative, field.http, tested, field.came, anchors, parts)


def _anchors(
    field: _Field[Any], wanted: tuple[str, ...], keys: tuple[Key, ...] | None, dialect: Dialect
) -> Iterator[Anchor]:
    if keys is not None:
        unknown = dialect.denies and field.known is not None
        yield Anchor(field.name, field.http, field.probe, keys, field.single, unknown)
    yield from field.further(wanted)


def _test(
    test: Callable[[F], bool], known: Callable[[F], bool] | None, negative: bool, denies: bool
) -> Callable[[F], bool]:
    if known is not None:
        if negative:
            return lambda facts: not test(facts) if known(facts) else denies
        return lambda facts: test(facts) if known(facts) else denies
    return (lambda facts: not test(facts)) if negative else test


def _strings(
    get: Callable[[F], str | None], *, fold: bool = False
) -> Callable[[tuple[str, ...], Dialect], tuple[Callable[[F], bool], tuple[Key, ...] | None]]:
    """Compile the values of a field with one text."""

    def build(values: tuple[str, ...], dialect: Dialect) -> tuple[Callable[[F], bool], tuple[Key, ...] | None]:
        strings = Strings(one.lower() if fold else one for one in values)
        exact, matches = strings.exact, strings.matches
        if strings.only_exact and len(exact) == 1:
            (only,) = exact
            return lambda facts: get(facts) == only, strings.keys
        if strings.only_exact:
            return lambda facts: get(facts) in exact, strings.keys
        return lambda facts: matches(get(facts)), strings.keys

    return build


def _any_string(
    get: Callable[[F], Sequence[str]],
) -> Callable[[tuple[str, ...], Dialect], tuple[Callable[[F], bool], tuple[Key, ...] | None]]:
    """Compile the values of a field with several texts, one of which has to match."""

    def build(values: tuple[str, ...], dialect: Dialect) -> tuple[Callable[[F], bool], tuple[Key, ...] | None]:
        strings = Strings(values)
        return lambda facts: any(map(strings.matches, get(facts))), strings.keys

    return build


def _any_line(
    get: Callable[[HttpFacts], Sequence[str]],
) -> Callable[[tuple[str, ...], Dialect], tuple[Callable[[HttpFacts], bool], tuple[Key, ...] | None]]:
    """Compile the values of a header, one of which has to match. A star matches an empty one, too."""

    def build(values: tuple[str, ...], dialect: Dialect) -> tuple[Callable[[HttpFacts], bool], tuple[Key, ...] | None]:
        strings = Strings(map(latin_1, values), star_matches_empty=True)
        return lambda facts: any(map(strings.matches, get(facts))), strings.keys

    return build


def _every_line(
    get: Callable[[HttpFacts], Sequence[str]],
) -> Callable[[tuple[str, ...], Dialect], tuple[Callable[[HttpFacts], bool], tuple[Key, ...] | None]]:
    """Compile the values of a header, at least one, all of which have to match."""

    def build(values: tuple[str, ...], dialect: Dialect) -> tuple[Callable[[HttpFacts], bool], tuple[Key, ...] | None]:
        strings = Strings(map(latin_1, values), star_matches_empty=True)

        def test(facts: HttpFacts) -> bool:
            found = get(facts)
            return bool(found) and all(map(strings.matches, found))

        return test, strings.keys

    return build


def _one(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _ip_field(name: str, attribute: str) -> _Field[ConnectionFacts]:
    get: Callable[[ConnectionFacts], Ip | None] = attrgetter(attribute)
    text: Callable[[ConnectionFacts], str] = attrgetter(f"{attribute}_text")

    def probe(facts: ConnectionFacts) -> tuple[Ip, ...] | None:
        found = get(facts)
        return None if found is None else (found,)

    def build(values: tuple[str, ...], dialect: Dialect) -> tuple[Callable[[Any], bool], tuple[Key, ...] | None]:
        networks = Networks(values)
        return lambda facts: networks.matches(get(facts)), networks.keys  # type: ignore[arg-type]  # it is known

    return _Field(name, False, probe, text, build, known=lambda facts: get(facts) is not None)


def _ports(values: tuple[str, ...], dialect: Dialect) -> tuple[Callable[[ConnectionFacts], bool], tuple[Key, ...]]:
    ports = Ports(values)
    return lambda facts: facts.port in ports.numbers, ports.keys


def _namespaces(
    values: tuple[str, ...], dialect: Dialect
) -> tuple[Callable[[ConnectionFacts], bool], tuple[Key, ...] | None]:
    namespaces = Namespaces(values)
    return lambda facts: namespaces.matches(facts.id_path), namespaces.keys


def _accounts(
    values: tuple[str, ...], dialect: Dialect
) -> tuple[Callable[[ConnectionFacts], bool], tuple[Key, ...] | None]:
    accounts = Accounts(values, dialect.namespace)
    return lambda facts: accounts.matches(facts.id_path), accounts.keys


def _domains(
    values: tuple[str, ...], dialect: Dialect
) -> tuple[Callable[[ConnectionFacts], bool], tuple[Key, ...] | None]:
    domains = Domains(values)
    return lambda facts: domains.matches(facts.spiffe_id), domains.keys


def _request_principals(
    values: tuple[str, ...], dialect: Dialect
) -> tuple[Callable[[HttpFacts], bool], tuple[Key, ...] | None]:
    principals = RequestPrincipals(values)
    return lambda facts: any(map(principals.matches, facts.request_principals)), principals.keys


def _paths(values: tuple[str, ...], dialect: Dialect) -> tuple[Callable[[HttpFacts], bool], tuple[Key, ...] | None]:
    paths = Paths(values)
    if not paths.templates and paths.strings.only_exact:
        exact = paths.strings.exact
        if len(exact) == 1:
            (only,) = exact
            return lambda facts: facts.path == only, paths.keys
        return lambda facts: facts.path in exact, paths.keys
    return lambda facts: paths.matches(facts.path), paths.keys


def _path_parts(values: tuple[str, ...]) -> tuple[Anchor, ...]:
    if not any(map(is_template, values)):
        return ()
    keys = Paths(values).keys_by_part
    return () if keys is None else (Anchor("path parts", True, lambda facts: parts_of(facts.path), keys),)


def _namespace_endings(values: tuple[str, ...]) -> tuple[Anchor, ...]:
    keys = Namespaces(values).keys_by_ending
    return () if keys is None else (Anchor("namespace ending", False, _segments_after_ns, keys),)


def _segments_after_ns(facts: ConnectionFacts) -> tuple[str, ...]:
    return segments_after_ns(facts.id_path)


def _named_headers(facts: HttpFacts) -> tuple[str, ...]:
    host = ("host", ":authority") if facts.request.host else ()
    return (*dict.fromkeys(name for name, _ in facts.request.headers), ":method", ":path", *host)


def _named_claims(facts: HttpFacts) -> tuple[str, ...]:
    """The names of claims, and of those inside of them, as a condition's key begins."""
    found = []
    for name, value in () if facts.auth is None else facts.auth.claims.items():
        found.append(name)
        if isinstance(value, Mapping):
            found += [f"{name}][{inner}" for inner in value]
    return tuple(found)


def _came_id(facts: ConnectionFacts) -> str:
    return "plaintext, which proves no identity" if facts.spiffe_id is None else facts.spiffe_id


def _came(value: str | None, absent: str) -> str:
    return absent if value is None else plain_or_shown(value)


def _came_principal(facts: HttpFacts) -> str:
    return " or ".join(plain_or_shown("/".join(one)) for one in facts.request_principals) or "no verified token"


def _came_several(values: Sequence[str]) -> str:
    return ", ".join(map(plain_or_shown, values[:_MOST_SHOWN])) or "none"


def _came_lines(values: Sequence[str]) -> str:
    if not values:
        return "no such header"
    # In messages a value is the text that its bytes are in UTF-8.
    texts = [one.encode("latin-1", "replace").decode("utf-8", "backslashreplace") for one in values]
    return _came_several(texts) + (", each of which counts" if len(values) > 1 else "")


_PRINCIPAL: _Field[ConnectionFacts] = _Field(
    "principal",
    False,
    lambda facts: _one(facts.spiffe_id),
    _came_id,
    _strings(attrgetter("spiffe_id")),
    expand_principals,
    single=attrgetter("spiffe_id"),
)
#: As a principal that is taken as it is written.
_SPIFFE_ID = replace(_PRINCIPAL, expand=lambda values, mesh: values)
_NAMESPACE: _Field[ConnectionFacts] = _Field(
    "namespace",
    False,
    lambda facts: namespaces_of(facts.id_path),
    _came_id,
    _namespaces,
    further=_namespace_endings,
)
_ACCOUNT: _Field[ConnectionFacts] = _Field(
    "account", False, lambda facts: accounts_of(facts.id_path), _came_id, _accounts
)
_DOMAIN: _Field[ConnectionFacts] = _Field(
    "domain",
    False,
    lambda facts: () if facts.spiffe_id is None else (facts.spiffe_id.partition("/")[0],),
    _came_id,
    _domains,
    expand_domains,
)
_SOURCE_IP = _ip_field("source_ip", "source_ip")
_REMOTE_IP = _ip_field("remote_ip", "remote_ip")
_DESTINATION_IP = _ip_field("destination_ip", "destination_ip")
_PORT: _Field[ConnectionFacts] = _Field(
    "port",
    False,
    lambda facts: None if facts.port is None else (str(facts.port),),
    lambda facts: "no port" if facts.port is None else str(facts.port),
    _ports,
    known=lambda facts: facts.port is not None,
)
_SNI: _Field[ConnectionFacts] = _Field(
    "sni",
    False,
    lambda facts: _one(facts.sni),
    lambda facts: _came(facts.sni, "no server name"),
    _strings(attrgetter("sni"), fold=True),
)
_REQUEST_PRINCIPAL: _Field[HttpFacts] = _Field(
    "request_principal",
    True,
    lambda facts: tuple(map("/".join, facts.request_principals)),
    _came_principal,
    _request_principals,
)
_HOST: _Field[HttpFacts] = _Field(
    "host",
    True,
    lambda facts: _one(facts.host),
    lambda facts: _came(facts.host, "no host"),
    _strings(attrgetter("host"), fold=True),
    single=attrgetter("host"),
)
_METHOD: _Field[HttpFacts] = _Field(
    "method",
    True,
    lambda facts: (facts.method,),
    lambda facts: plain_or_shown(facts.method),
    _strings(attrgetter("method")),
    single=attrgetter("method"),
)
_PATH: _Field[HttpFacts] = _Field(
    "path",
    True,
    lambda facts: (facts.path,),
    lambda facts: plain_or_shown(facts.path),
    _paths,
    single=attrgetter("path"),
    further=_path_parts,
)
_AUDIENCES: _Field[HttpFacts] = _Field(
    "audiences",
    True,
    attrgetter("audiences"),
    lambda facts: _came_several(facts.audiences),
    _any_string(attrgetter("audiences")),
)
_PRESENTER: _Field[HttpFacts] = _Field(
    "presenter",
    True,
    lambda facts: _one(facts.presenter),
    lambda facts: _came(facts.presenter, "none"),
    _strings(attrgetter("presenter")),
)
_CONDITIONS: dict[str, _Field[Any]] = {
    "source.ip": _SOURCE_IP,
    "remote.ip": _REMOTE_IP,
    "source.namespace": _NAMESPACE,
    "source.serviceAccount": _ACCOUNT,
    "source.principal": _PRINCIPAL,
    "source.trustDomain": _DOMAIN,
    "request.auth.principal": _REQUEST_PRINCIPAL,
    "request.auth.audiences": _AUDIENCES,
    "request.auth.presenter": _PRESENTER,
    "destination.ip": _DESTINATION_IP,
    "destination.port": _PORT,
    "connection.sni": _SNI,
}
_HEADERS, _CLAIMS = "request.headers[", "request.auth.claims["


def header_of(key: str) -> str | None:
    """The header, in lower case, that a condition with this key is on; None for another key."""
    return key[len(_HEADERS) : -1].lower() or None if key.startswith(_HEADERS) and key.endswith("]") else None


@lru_cache(maxsize=_MOST_SHARED)
def _condition_field(key: str) -> _Field[Any]:
    """Raises RequestError for a key that is unknown."""
    if key in _CONDITIONS:
        return _CONDITIONS[key]
    if header := header_of(key):

        def sent(facts: HttpFacts) -> tuple[str, ...]:
            return facts.header(header)

        def read(facts: HttpFacts) -> tuple[str, ...]:
            lines = facts.header(header)
            # As apps read it that join the lines of a field, with or without a blank (RFC 9110, section 5.3).
            return lines if len(lines) < 2 else (*lines, ",".join(lines), ", ".join(lines))

        return _Field(
            f"header {header}",
            True,
            read,
            lambda facts: _came_lines(sent(facts)),
            _any_line(read),
            every=_every_line(sent),
            further=lambda wanted: (Anchor("header names", True, _named_headers, (Key(KeyKind.EXACT, header),)),),
        )
    if key.startswith(_CLAIMS) and key.endswith("]") and (inner := key[len(_CLAIMS) : -1]):
        keys = tuple(inner.split("]["))

        def values(facts: HttpFacts) -> tuple[str, ...]:
            return facts.claim(keys)

        return _Field(
            f"claim {inner}",
            True,
            values,
            lambda facts: _came_several(values(facts)),
            _any_string(values),
            further=lambda wanted: (
                Anchor("claim names", True, _named_claims, (Key(KeyKind.EXACT, "][".join(keys[:2])),)),
            ),
        )
    raise RequestError(
        f"wanted a key such as {', '.join(_CONDITIONS)}, request.headers[NAME] or request.auth.claims[NAME],"
        f" got {shown(key)}"
    )
