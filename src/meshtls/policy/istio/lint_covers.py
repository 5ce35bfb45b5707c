"""What one pattern, field or rule matches, compared with what another does. Pure.

An answer is "yes" only where that is certain: what can't be decided cheaply, such as templates of paths, is a "no".
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Callable, Iterable
from typing import NamedTuple

from meshtls.policy.istio.match import expand_domains, expand_principals
from meshtls.policy.istio.model import Condition, MeshSettings, Operation, Rule, Source

__all__ = ["OPERATION_FIELDS", "SOURCE_FIELDS", "Compared", "Comparison", "kind_of_key", "namespace_matches"]

#: Comparisons of two values, before all further ones are given up.
_MOST = 1_000_000


class Compared(NamedTuple):
    """A field with its negation. ``name`` is the one in the document, ``attribute`` the one in the model."""

    name: str
    attribute: str
    kind: str = "pattern"

    @property
    def negation(self) -> str:
        return f"not{self.name[0].upper()}{self.name[1:]}"

    def values(self, owner: Source | Operation) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return getattr(owner, self.attribute), getattr(owner, f"not_{self.attribute}")


SOURCE_FIELDS = (
    Compared("principals", "principals", "principal"),
    Compared("requestPrincipals", "request_principals", "subject"),
    Compared("namespaces", "namespaces", "namespace"),
    Compared("serviceAccounts", "service_accounts", "account"),
    Compared("trustDomains", "trust_domains", "domain"),
    Compared("ipBlocks", "ip_blocks", "ip"),
    Compared("remoteIpBlocks", "remote_ip_blocks", "ip"),
)
OPERATION_FIELDS = (
    Compared("hosts", "hosts", "host"),
    Compared("ports", "ports", "exact"),
    Compared("methods", "methods"),
    Compared("paths", "paths", "path"),
)
_KIND_OF_KEY = {
    "source.ip": "ip",
    "source.namespace": "namespace",
    "source.serviceAccount": "account",
    "source.principal": "principal",
    "source.trustDomain": "domain",
    "remote.ip": "ip",
    "destination.ip": "ip",
    "destination.port": "exact",
    "connection.sni": "host",
    "request.auth.principal": "subject",
}
#: The keys with one value per request: two conditions on one of them can contradict each other.
_SINGLE = ("source.principal", "source.trustDomain", "destination.port", "connection.sni")


class Comparison:
    """Compares with the trust domains of a mesh. After ``_MOST`` comparisons of values each answer is "no"."""

    def __init__(self, mesh: MeshSettings) -> None:
        self._mesh = mesh
        self._left = _MOST

    @property
    def exhausted(self) -> bool:
        return self._left <= 0

    def all_covered(self, kind: str, values: Iterable[str], by: Iterable[str], namespace: str = "") -> bool:
        """Whether each text that one of ``values`` matches is matched by one of ``by``."""
        patterns = self._expanded(kind, namespace, by)
        return all(
            any(self._compare(_COVERS[kind], one, value) for one in patterns)
            for value in self._expanded(kind, namespace, values)
        )

    def all_disjoint(self, kind: str, values: Iterable[str], others: Iterable[str], namespace: str = "") -> bool:
        """Whether no text matches one of ``values`` and one of ``others``."""
        patterns = self._expanded(kind, namespace, others)
        return all(
            self._compare(_DISJOINT[kind], one, value)
            for value in self._expanded(kind, namespace, values)
            for one in patterns
        )

    def covers_rule(self, wide: Rule, narrow: Rule, wide_namespace: str, narrow_namespace: str) -> bool:
        """Whether each request that matches ``narrow`` matches ``wide``."""
        spaces = wide_namespace, narrow_namespace
        return (
            (
                not wide.sources
                or all(
                    any(self._covers(SOURCE_FIELDS, one, source, spaces) for one in wide.sources)
                    for source in narrow.sources or (Source(),)
                )
            )
            and (
                not wide.operations
                or all(
                    any(self._covers(OPERATION_FIELDS, one, operation, spaces) for one in wide.operations)
                    for operation in narrow.operations or (Operation(),)
                )
            )
            and all(
                any(self._covers_condition(one, other, spaces) for other in narrow.conditions)
                for one in wide.conditions
            )
        )

    def contradicts(self, one: Condition, other: Condition) -> bool:
        """Whether no request matches both."""
        return (
            one.key == other.key
            and one.key in _SINGLE
            and bool(one.values and other.values)
            and self.all_disjoint(kind_of_key(one.key), one.values, other.values)
        )

    def _covers(
        self,
        fields: tuple[Compared, ...],
        wide: Source | Operation,
        narrow: Source | Operation,
        spaces: tuple[str, str],
    ) -> bool:
        return all(self._covers_field(field.kind, field.values(wide), field.values(narrow), spaces) for field in fields)

    def _covers_condition(self, wide: Condition, narrow: Condition, spaces: tuple[str, str]) -> bool:
        return wide.key == narrow.key and self._covers_field(
            kind_of_key(wide.key), (wide.values, wide.not_values), (narrow.values, narrow.not_values), spaces
        )

    def _covers_field(
        self,
        kind: str,
        wide: tuple[tuple[str, ...], tuple[str, ...]],
        narrow: tuple[tuple[str, ...], tuple[str, ...]],
        spaces: tuple[str, str],
    ) -> bool:
        if kind == "account":
            # An account without a namespace is of its policy's.
            wide, narrow = _qualified(wide, spaces[0]), _qualified(narrow, spaces[1])
        values, negated = narrow
        if wide[0] and not (values and self.all_covered(kind, values, wide[0])):
            return False
        return all(
            self.all_covered(kind, (one,), negated) or (bool(values) and self.all_disjoint(kind, values, (one,)))
            for one in wide[1]
        )

    def _expanded(self, kind: str, namespace: str, values: Iterable[str]) -> list[str]:
        """The values with each of our trust domains in place of one of ours, as the compiler expands them."""
        if kind == "account" and namespace:
            return [_with_namespace(one, namespace) for one in values]
        if kind == "host":
            return [one.lower() for one in values]
        if kind == "principal":
            return list(expand_principals(values, self._mesh))
        if kind == "domain":
            return list(expand_domains(values, self._mesh))
        return list(values)

    def _compare(self, test: Callable[[str, str], bool], one: str, other: str) -> bool:
        self._left -= 1
        return self._left > 0 and test(one, other)


def kind_of_key(key: str) -> str:
    """How the values of a condition with this key are compared."""
    # A token may have several audiences, a claim several values, and a header may come several times.
    return _KIND_OF_KEY.get(key, "many" if key.startswith("request.auth.") else "header")


def namespace_matches(pattern: str, text: str) -> bool:
    """Whether a namespace's pattern, in which each star is any text, matches."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def _qualified(
    pair: tuple[tuple[str, ...], tuple[str, ...]], namespace: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    values, negated = pair
    return (
        tuple(_with_namespace(one, namespace) for one in values),
        tuple(_with_namespace(one, namespace) for one in negated),
    )


def _with_namespace(account: str, namespace: str) -> str:
    return account if "/" in account else f"{namespace}/{account}"


def _pattern_covers(pattern: str, other: str) -> bool:
    if pattern in ("*", other):
        return True
    if pattern.endswith("*"):
        # A suffix such as *a begins with anything.
        return not other.startswith("*") and other.removesuffix("*").startswith(pattern[:-1])
    if pattern.startswith("*"):
        return not other.endswith("*") and other.removeprefix("*").endswith(pattern[1:])
    return False


def _pattern_disjoint(one: str, other: str) -> bool:
    if one.endswith("*") and other.endswith("*"):
        return not (one[:-1].startswith(other[:-1]) or other[:-1].startswith(one[:-1]))
    if one.startswith("*") and other.startswith("*"):
        return not (one[1:].endswith(other[1:]) or other[1:].endswith(one[1:]))
    if "*" in (one[:1], one[-1:]) and "*" in (other[:1], other[-1:]):
        return False  # A prefix and a suffix: the text between them is free.
    return not (_pattern_covers(one, other) or _pattern_covers(other, one))


def _path_covers(pattern: str, other: str) -> bool:
    return pattern in ("*", other) or ("{" not in pattern + other and _pattern_covers(pattern, other))


def _path_disjoint(one: str, other: str) -> bool:
    return "{" not in one + other and _pattern_disjoint(one, other)


def _namespace_covers(pattern: str, other: str) -> bool:
    return pattern in ("*", other) or ("*" not in other and namespace_matches(pattern, other))


def _domain_covers(pattern: str, other: str) -> bool:
    # A value with a slash goes on into the ID's path, whole segments only.
    return pattern in ("*", other) or ("/" not in pattern + other and _pattern_covers(pattern, other))


def _domain_disjoint(one: str, other: str) -> bool:
    return "/" not in one + other and _pattern_disjoint(one, other)


def _network(block: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The network, with IPv4-mapped addresses as those of IPv4, as they are matched."""
    found = ipaddress.ip_network(block, strict=False)
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= 96:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.ip_network((mapped, found.prefixlen - 96))
    return found


def _ip_covers(block: str, other: str) -> bool:
    wide, narrow = _network(block), _network(other)
    return wide.version == narrow.version and narrow.subnet_of(wide)  # type: ignore[arg-type]


def _ip_disjoint(one: str, other: str) -> bool:
    first, second = _network(one), _network(other)
    return first.version != second.version or not first.overlaps(second)


def _equal(one: str, other: str) -> bool:
    return one == other


def _different(one: str, other: str) -> bool:
    return one != other


def _never(one: str, other: str) -> bool:
    return False


_COVERS: dict[str, Callable[[str, str], bool]] = {
    "pattern": _pattern_covers,
    "many": _pattern_covers,
    # Each line of an ALLOW rule's header matches, and one of a DENY rule's is enough: as if there was one line.
    "header": _pattern_covers,
    "principal": _pattern_covers,
    "domain": _domain_covers,
    # Issuer and subject are matched apart, and either may be empty.
    "subject": _equal,
    "host": _pattern_covers,
    "path": _path_covers,
    "namespace": _namespace_covers,
    "account": _equal,
    "exact": _equal,
    "ip": _ip_covers,
}
_DISJOINT: dict[str, Callable[[str, str], bool]] = {
    "pattern": _pattern_disjoint,
    "header": _pattern_disjoint,
    "principal": _pattern_disjoint,
    "domain": _domain_disjoint,
    "subject": _never,
    "host": _pattern_disjoint,
    "path": _path_disjoint,
    # A SPIFFE ID may have several parts /ns/<value>/.
    "namespace": _never,
    "account": _never,
    "many": _never,
    "exact": _different,
    "ip": _ip_disjoint,
}
