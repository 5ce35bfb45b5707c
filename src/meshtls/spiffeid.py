"""SPIFFE IDs and trust domains: parsed once, passed as objects, never as strings (SPIFFE-ID, section 2). Pure.

The standard is stricter than RFC 3986, so no URI parser is used: it would accept userinfo, ports and percent-encoding,
by each of which different texts could be taken for the same identity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from meshtls.errors import InvalidSpiffeIdError

__all__ = ["MAX_ID_BYTES", "MAX_TRUST_DOMAIN_BYTES", "SpiffeId", "TrustDomain"]

MAX_ID_BYTES = 2048
MAX_TRUST_DOMAIN_BYTES = 255
_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """A trust domain name such as ``example.org``: 1 to 255 of ``[a-z0-9._-]``, no DNS rules beyond that."""

    name: str

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TrustDomain):
            return self.name == other.name
        _refuse_text(self, other)
        return NotImplemented

    # That of its text, so that looking up a str among trust domains compares the two, which raises.
    def __hash__(self) -> int:
        return hash(self.name)

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.fullmatch(self.name):
            raise InvalidSpiffeIdError(
                f"trust domain {_shorten(self.name)}: wanted one or more of a-z, 0-9, '.', '_' and '-'"
            )
        if len(self.name) > MAX_TRUST_DOMAIN_BYTES:
            raise InvalidSpiffeIdError(
                f"trust domain of {len(self.name)} bytes: wanted at most {MAX_TRUST_DOMAIN_BYTES}"
            )

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """Read ``example.org`` or any SPIFFE ID in it. Raises InvalidSpiffeIdError."""
        if "://" in text:
            return SpiffeId.parse(text).trust_domain
        return cls(_ascii_lower(text))

    @property
    def id(self) -> SpiffeId:
        """The trust domain's own SPIFFE ID, the one with the empty path."""
        return SpiffeId(self, "")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A SPIFFE ID, ``spiffe://<trust domain><path>``; ``path`` is empty or starts with a slash. Equal IDs are equal
    objects.

    Use ``parse`` to read a text. Comparing an ID with a text raises TypeError: with False, every check of the form
    ``peer_id != "spiffe://..."`` would pass. So does looking up a text in a set or dict that has the ID.
    """

    trust_domain: TrustDomain
    path: str = ""

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SpiffeId):
            return self.path == other.path and self.trust_domain == other.trust_domain
        _refuse_text(self, other)
        return NotImplemented

    # That of its text, so that looking up a str among IDs compares the two, which raises.
    def __hash__(self) -> int:
        return hash(str(self))

    def __post_init__(self) -> None:
        if not isinstance(self.trust_domain, TrustDomain):
            raise TypeError(
                f"SpiffeId: wanted a TrustDomain and a path, got {self.trust_domain!r};"
                " read a text with SpiffeId.parse('spiffe://example.org/path')"
            )
        if self.path:
            _check_path(self.path)
        if len(str(self)) > MAX_ID_BYTES:
            raise InvalidSpiffeIdError(f"SPIFFE ID of {len(str(self))} bytes: wanted at most {MAX_ID_BYTES}")

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read a SPIFFE ID. Scheme and trust domain are not case-sensitive, the path is.

        Raises InvalidSpiffeIdError with the invalid part.
        """
        if text[: len(_SCHEME)].lower() != _SCHEME:
            raise InvalidSpiffeIdError(f"SPIFFE ID {_shorten(text)}: wanted it to start with {_SCHEME!r}")
        authority, slash, path = text[len(_SCHEME) :].partition("/")
        return cls(TrustDomain(_ascii_lower(authority)), slash + path)

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments: ``/ns/default/sa/web`` is ``("ns", "default", "sa", "web")``."""
        return tuple(self.path.split("/")[1:])

    def member_of(self, trust_domain: TrustDomain) -> bool:
        return self.trust_domain == trust_domain

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain.name}{self.path}"


def _refuse_text(value: TrustDomain | SpiffeId, other: object) -> None:
    if isinstance(other, str):
        kind = type(value).__name__
        raise TypeError(f"{kind} {value} compared with the str {_shorten(other)}: compare it with {kind}.parse(...)")


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidSpiffeIdError(f"path {_shorten(path)}: wanted it to start with '/'")
    for segment in path[1:].split("/"):
        if not segment:
            raise InvalidSpiffeIdError(f"path {_shorten(path)}: wanted no empty segment and no trailing '/'")
        if segment in (".", ".."):
            raise InvalidSpiffeIdError(f"path {_shorten(path)}: wanted no relative segment {segment!r}")
        if not _SEGMENT.fullmatch(segment):
            raise InvalidSpiffeIdError(f"path segment {_shorten(segment)}: wanted only A-Z, a-z, 0-9, '.', '_' and '-'")


def _ascii_lower(text: str) -> str:
    # str.lower() maps the Kelvin sign to an ASCII k, so only ASCII text is lowered before it is checked.
    return text.lower() if text.isascii() else text


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
