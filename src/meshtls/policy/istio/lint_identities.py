"""Identities of a rule that no peer has: SPIFFE IDs, trust domains, namespaces and service accounts. Pure.

IDs are compared as they are written, with case. That of a peer was checked in the handshake, by the same rules that say
here whether there can be one that a pattern matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from meshtls.errors import InvalidSpiffeIdError
from meshtls.policy.istio.model import MeshSettings
from meshtls.scalars import shown
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["domain_problem", "principal_problem", "segment_problem"]

#: What may stand in the place of a star so that the whole is an ID, or a trust domain.
_BEFORE_ID, _AFTER_ID = ("", "x", "x/", "x/x", "x/x/"), ("", "x", "/x", "x/x")
_BEFORE_DOMAIN, _AFTER_DOMAIN = ("", "x"), ("", "x")
_DOMAIN_CHARACTERS = "a trust domain has only a-z, 0-9, '.', '_' and '-'"
_PATH_CHARACTERS = "the path of a SPIFFE ID has only A-Z, a-z, 0-9, '.', '_' and '-' in its segments"
_SEGMENTS = re.compile(r"[A-Za-z0-9._/*-]*", re.ASCII)


def principal_problem(mesh: MeshSettings, pattern: str) -> str:
    """Why no SPIFFE ID matches this value of ``principals``; empty if one can."""
    if pattern.startswith("ns/") and "ns" not in (mesh.trust_domain, *mesh.trust_domain_aliases):
        return f"a principal begins with its trust domain; write {shown(f'cluster.local/{pattern}')}"
    if _may_match(pattern, _BEFORE_ID, _AFTER_ID, _is_id):
        return ""
    domain, slash, path = pattern.partition("/")
    lowered = f"{domain.lower()}{slash}{path}"
    if lowered != pattern and _may_match(lowered, _BEFORE_ID, _AFTER_ID, _is_id):
        return f"trust domains are in small letters; write {shown(lowered)}"
    if not path and "*" not in pattern:
        return "a principal is a trust domain and a path, such as cluster.local/ns/web/sa/web"
    return f"{_DOMAIN_CHARACTERS}, and {_PATH_CHARACTERS}"


def domain_problem(pattern: str) -> str:
    """Why no trust domain matches this value of ``trustDomains``; empty if one can."""
    if _may_match(pattern, _BEFORE_DOMAIN, _AFTER_DOMAIN, _is_domain):
        return ""
    lowered = pattern.lower()
    if lowered != pattern and _may_match(lowered, _BEFORE_DOMAIN, _AFTER_DOMAIN, _is_domain):
        return f"trust domains are in small letters; write {shown(lowered)}"
    return _DOMAIN_CHARACTERS


def segment_problem(pattern: str) -> str:
    """Why no SPIFFE ID has this namespace, or service account; empty if one can."""
    return "" if _SEGMENTS.fullmatch(pattern) else _PATH_CHARACTERS


def _may_match(pattern: str, before: tuple[str, ...], after: tuple[str, ...], is_one: Callable[[str], bool]) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return any(is_one(f"{one}{pattern[1:]}") for one in before)
    if pattern.endswith("*"):
        return any(is_one(f"{pattern[:-1]}{one}") for one in after)
    return is_one(pattern)


def _is_id(text: str) -> bool:
    domain, slash, path = text.partition("/")
    try:
        return SpiffeId(TrustDomain(domain), f"{slash}{path}").path != ""
    except InvalidSpiffeIdError:
        return False


def _is_domain(text: str) -> bool:
    try:
        return TrustDomain(text).name == text
    except InvalidSpiffeIdError:
        return False
