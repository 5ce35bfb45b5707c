"""Patterns of a policy's fields, compiled: exact, ``abc*``, ``*abc`` and ``*``, address blocks, parts of a SPIFFE ID.

No pattern becomes a regular expression, so no character but a leading or trailing star has a meaning. Each set of
patterns answers ``matches``, and gives the ``keys`` under which an index finds what has it: None where it matches too
much to be found by a key. A match implies that one of the keys is found, not the reverse. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from meshtls.errors import RequestError
from meshtls.policy.istio.model import MeshSettings

__all__ = [
    "Accounts",
    "Domains",
    "Ip",
    "Key",
    "KeyKind",
    "Namespaces",
    "Networks",
    "Part",
    "Ports",
    "RequestPrincipals",
    "Strings",
    "accounts_of",
    "expand_domains",
    "expand_principals",
    "namespaces_of",
    "read_ip",
    "segments_after_ns",
]

#: A version and the address as a number; an IPv4-mapped IPv6 address is an IPv4 address.
Ip = tuple[int, int]
#: A segment of a path with its number, from 0.
Part = tuple[int, str]
_MAPPED = 0xFFFF << 32
_LOCAL = "cluster.local"


class KeyKind:
    """How a key is compared with a value."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    NETWORK = "network"
    CHOICE = "choice"


class Key(NamedTuple):
    """``size`` is the length of a prefix or suffix; of a network, its version and the number of bits that are free.

    A choice has keys as its value. Each of them is found for whatever the pattern matches, so that an index needs one.
    """

    kind: str
    value: str | int | Part | tuple[Key, ...]
    size: tuple[int, int] = (0, 0)


class Strings:
    """Patterns of whole texts. ``*`` matches what is not empty, or, with ``star_matches_empty``, whatever is there."""

    __slots__ = ("any", "exact", "prefixes", "suffixes")

    def __init__(self, patterns: Iterable[str], *, star_matches_empty: bool = False) -> None:
        exact, prefixes, suffixes = set(), set(), set()
        #: The shortest text that ``*`` matches; None without one.
        self.any: int | None = None
        for one in patterns:
            if one == "*":
                self.any = 0 if star_matches_empty else 1
            elif one.startswith("*"):
                suffixes.add(one[1:])
            elif one.endswith("*"):
                prefixes.add(one[:-1])
            else:
                exact.add(one)
        self.exact, self.prefixes, self.suffixes = frozenset(exact), tuple(sorted(prefixes)), tuple(sorted(suffixes))

    @property
    def only_exact(self) -> bool:
        return self.any is None and not self.prefixes and not self.suffixes

    def matches(self, value: str | None) -> bool:
        """Whether one of the patterns matches; None, a value that is absent, matches none."""
        if value is None:
            return False
        return (
            value in self.exact
            or value.startswith(self.prefixes)
            or value.endswith(self.suffixes)
            or (self.any is not None and len(value) >= self.any)
        )

    @property
    def keys(self) -> tuple[Key, ...] | None:
        if self.any is not None:
            return None
        return (
            *(Key(KeyKind.EXACT, one) for one in sorted(self.exact)),
            *(Key(KeyKind.PREFIX, one, (len(one), 0)) for one in self.prefixes),
            *(Key(KeyKind.SUFFIX, one, (len(one), 0)) for one in self.suffixes),
        )


@lru_cache(maxsize=4096)
def read_ip(text: str | None) -> Ip | None:
    """An address without its zone; None for a text that is none."""
    if text is None:
        return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (4, int(mapped)) if mapped is not None else (address.version, int(address))


class Networks:
    """Address blocks, and single addresses. The time to match grows with the number of sizes, not of blocks."""

    __slots__ = ("_blocks",)

    def __init__(self, blocks: Iterable[str]) -> None:
        """Raises RequestError for a text that is no address or block."""
        self._blocks: dict[tuple[int, int], set[int]] = {}
        for text in blocks:
            try:
                block = ipaddress.ip_network(text, strict=False)
            except ValueError as error:
                raise RequestError(
                    f"wanted an address or a block such as 10.0.0.0/8 or 2001:db8::/32, got {text!r}"
                ) from error
            version, first, free = block.version, int(block.network_address), block.max_prefixlen - block.prefixlen
            if version == 6 and first >> 32 == _MAPPED >> 32 and free <= 32:
                version, first = 4, first & 0xFFFFFFFF
            self._blocks.setdefault((version, free), set()).add(first >> free)

    def matches(self, ip: Ip) -> bool:
        version, number = ip
        return any(of == version and number >> free in blocks for (of, free), blocks in self._blocks.items())

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(
            Key(KeyKind.NETWORK, one, size) for size, blocks in sorted(self._blocks.items()) for one in sorted(blocks)
        )


class Ports:
    """Port numbers."""

    __slots__ = ("numbers",)

    def __init__(self, ports: Iterable[str]) -> None:
        """Raises RequestError for a text that is no port."""
        found = set()
        for text in ports:
            if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
                raise RequestError(f"wanted a port from 0 to 65535, got {text!r}")
            found.add(int(text))
        self.numbers = frozenset(found)

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(Key(KeyKind.EXACT, str(one)) for one in sorted(self.numbers))


class Namespaces:
    """Values of ``/ns/<value>/`` in the path of a SPIFFE ID; a star, anywhere, is any text, slashes included."""

    __slots__ = ("_patterns",)

    def __init__(self, values: Iterable[str]) -> None:
        self._patterns = tuple(tuple(f"/ns/{one}/".split("*")) for one in values)

    def matches(self, id_path: str | None) -> bool:
        return id_path is not None and any(_has_parts(id_path, parts) for parts in self._patterns)

    @property
    def keys(self) -> tuple[Key, ...] | None:
        # ``namespaces_of`` has what begins after ``/ns/`` and is followed by a slash, which ends each pattern.
        found = [_key_from(parts[0][len("/ns/") :], whole=len(parts) == 1) for parts in self._patterns]
        return None if any("/" in str(one.value) or one.value == "" for one in found) else tuple(found)

    @property
    def keys_by_ending(self) -> tuple[Key, ...] | None:
        """The same for ``segments_after_ns``; None also if no pattern has a star."""
        if all(len(parts) == 1 for parts in self._patterns):
            return None
        endings = [(parts[0][len("/ns/") :] if len(parts) == 1 else parts[-1])[:-1] for parts in self._patterns]
        if any("/" in one or not one for one in endings):
            return None
        return tuple(Key(KeyKind.SUFFIX, one, (len(one), 0)) for one in endings)


def _key_from(beginning: str, *, whole: bool) -> Key:
    return Key(KeyKind.EXACT, beginning[:-1]) if whole else Key(KeyKind.PREFIX, beginning, (len(beginning), 0))


def _has_parts(text: str, parts: Sequence[str]) -> bool:
    """Whether the text contains the parts one after the other: the leftmost of each leaves most for the next."""
    at = 0
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def namespaces_of(id_path: str | None) -> tuple[str, ...]:
    """Each segment that follows a segment ``ns`` and is not the last."""
    if id_path is None:
        return ()
    segments = id_path.split("/")[1:]
    return tuple(segments[i + 1] for i in range(len(segments) - 2) if segments[i] == "ns")


def segments_after_ns(id_path: str | None) -> tuple[str, ...]:
    """Each segment after the first ``ns`` but the last: where the end of a pattern with a star can be."""
    segments = [] if id_path is None else id_path.split("/")[1:-1]
    return tuple(segments[segments.index("ns") + 1 :]) if "ns" in segments else ()


class Accounts:
    """``namespace/account``, or ``account`` in the policy's namespace, of any trust domain: no stars."""

    __slots__ = ("_accounts",)

    def __init__(self, values: Iterable[str], namespace: str) -> None:
        pairs = (tuple(one.split("/", 1)) if "/" in one else (namespace, one) for one in values)
        self._accounts = tuple((f"/ns/{space}/", f"/sa/{account}/") for space, account in pairs)

    def matches(self, id_path: str | None) -> bool:
        if id_path is None:
            return False
        path = f"{id_path}/"
        for space, account in self._accounts:
            at = path.find(space)
            # The slash that ends the namespace may begin the account.
            if at >= 0 and path.find(account, at + len(space) - 1) >= 0:
                return True
        return False

    @property
    def keys(self) -> tuple[Key, ...] | None:
        pairs = [(space[len("/ns/") : -1], account[len("/sa/") : -1]) for space, account in self._accounts]
        if any("/" in space or "/" in account for space, account in pairs):
            return None
        return tuple(Key(KeyKind.EXACT, f"{space}/{account}") for space, account in pairs)


def accounts_of(id_path: str | None) -> tuple[str, ...]:
    """Each pair of a segment after ``ns`` and a later one after ``sa``, as ``namespace/account``."""
    if id_path is None:
        return ()
    segments = id_path.split("/")[1:]
    if len(segments) == 4 and segments[0] == "ns" and segments[2] == "sa":
        return (f"{segments[1]}/{segments[3]}",)
    found: dict[str, None] = {}
    spaces: dict[str, None] = {}
    for at in range(len(segments) - 1):
        if at >= 2 and segments[at - 2] == "ns":
            spaces[segments[at - 1]] = None
        if segments[at] == "sa":
            found.update(dict.fromkeys(f"{space}/{segments[at + 1]}" for space in spaces))
    return tuple(found)


class Domains:
    """Trust domains: exact, ``abc*``, ``*abc`` or ``*``, which is any ID. A star does not cross a slash.

    A value with a slash, which only ``source.trustDomain`` may have, goes on into the ID's path, whole segments only.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[str]) -> None:
        self._values = tuple(values)

    def matches(self, spiffe_id: str | None) -> bool:
        """``spiffe_id`` is without its scheme."""
        return spiffe_id is not None and any(_in_domain(f"{spiffe_id}/", one) for one in self._values)

    @property
    def keys(self) -> tuple[Key, ...] | None:
        found = tuple(map(_domain_key, self._values))
        return None if any(one.value == "" for one in found) else found


def _domain_key(value: str) -> Key:
    """That of the trust domain alone, empty where it may be any."""
    domain, slash, _ = value.partition("/")
    if domain.startswith("*"):
        return Key(KeyKind.SUFFIX, domain[1:], (len(domain) - 1, 0))
    if value.endswith("*") and not slash:
        return Key(KeyKind.PREFIX, domain[:-1], (len(domain) - 1, 0))
    return Key(KeyKind.EXACT, domain)


def _in_domain(text: str, value: str) -> bool:
    if value == "*":
        return True
    if value.startswith("*"):
        ending = value[1:]
        start = text.index("/") - len(ending.partition("/")[0])
        return start >= 0 and text.startswith(f"{ending}/", start)
    if value.endswith("*"):
        beginning = value[:-1]
        return text.startswith(beginning) and text.find("/", len(beginning)) >= 0
    return text.startswith(f"{value}/")


class RequestPrincipals:
    """``issuer/subject``, divided at the last slash, since an issuer may be a URL.

    Without a slash ``abc*`` is of the issuer and ``*abc`` of the subject; the other part then has to be non-empty.
    """

    __slots__ = ("_exact", "_joined", "_pairs")

    def __init__(self, values: Iterable[str]) -> None:
        values = tuple(values)
        #: What issuer and subject match that are joined by a slash, and often more.
        self._joined = Strings(values)
        self._exact: set[tuple[str, str]] = set()
        self._pairs: list[tuple[Strings, Strings]] = []
        for one in values:
            issuer, slash, subject = one.rpartition("/")
            if not slash:
                issuer, subject = one, ""
            if one == "*":
                self._pairs.append((Strings(["*"]), Strings(["*"])))
            elif one.startswith("*"):
                pair = (Strings([issuer]), _literal(subject)) if slash else (Strings(["*"]), Strings([one]))
                self._pairs.append(pair)
            elif one.endswith("*"):
                pair = (_literal(issuer), Strings([subject])) if slash else (Strings([one]), Strings(["*"]))
                self._pairs.append(pair)
            else:
                self._exact.add((issuer, subject))

    def matches(self, principal: tuple[str, str]) -> bool:
        """``principal`` is issuer and subject."""
        issuer, subject = principal
        return principal in self._exact or any(a.matches(issuer) and b.matches(subject) for a, b in self._pairs)

    @property
    def keys(self) -> tuple[Key, ...] | None:
        stars = self._joined.keys
        if stars is None:
            return None
        exact = (Key(KeyKind.EXACT, f"{issuer}/{subject}") for issuer, subject in sorted(self._exact))
        return (*exact, *(one for one in stars if one.kind != KeyKind.EXACT))


def _literal(text: str) -> Strings:
    """This text alone, stars included."""
    found = Strings([])
    found.exact = frozenset([text])
    return found


def expand_principals(principals: Iterable[str], mesh: MeshSettings) -> tuple[str, ...]:
    """The principals with each of our trust domains in place of ``cluster.local``, ours, or an alias of ours."""
    ours = (mesh.trust_domain, *mesh.trust_domain_aliases)
    found: dict[str, None] = {}
    for one in principals:
        domain, slash, rest = one.partition("/")
        names = ours if slash and (domain == _LOCAL or domain in ours) else (domain,)
        found.update(dict.fromkeys(f"{name}{slash}{rest}" for name in names))
    return tuple(found)


def expand_domains(domains: Iterable[str], mesh: MeshSettings) -> tuple[str, ...]:
    """The trust domains with all of ours in place of one of ours."""
    ours = (mesh.trust_domain, *mesh.trust_domain_aliases)
    found: dict[str, None] = {}
    for one in domains:
        found.update(dict.fromkeys(ours if one in ours else (one,)))
    return tuple(found)
