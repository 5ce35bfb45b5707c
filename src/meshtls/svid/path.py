"""From a leaf to an authority that we trust (RFC 5280, section 6.1), at a cost that an unverified peer can't raise.

Names and key identifiers say which of the certificates may lead from the leaf to an authority. Their signatures are
then checked from the authority DOWN: a key that the peer sent is not used before a certificate with that key has been
verified by a key that we trust. So a peer without an authority's signature is refused after at most
``MAX_BAD_SIGNATURES`` checks with the authorities' own keys, whatever it sends. Only verified certificates are decoded
further.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import SignatureAlgorithmOID

from meshtls.parse_errors import PARSE_ERRORS
from meshtls.svid.leaf_rules import extension_of, signing_violations
from meshtls.svid.name_constraints import MAX_COMPARISONS, constraint_violation, names_of
from meshtls.svid.policies import policy_violation
from meshtls.svid.presented import Presented
from meshtls.svid.x509 import format_moment, format_serial

__all__ = ["MAX_BAD_SIGNATURES", "MAX_STEPS", "NoPathError", "PathCheck", "find_path", "signature_holds", "trusted"]

#: Invalid signatures after which the chain is refused. Honest peers cause none, unless authorities share a name and
#: have no key identifiers.
MAX_BAD_SIGNATURES = 4
#: Certificates that are followed, counted once for each way to them, before the chain is refused.
MAX_STEPS = 32

_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


class NoPathError(Exception):
    """There is no path; the text is the reason, for the caller's message."""


#: Why a path that breaks no other rule does not count, or None. It gets the path with the authority first.
PathCheck = Callable[[Sequence[Presented]], NoPathError | None]


def find_path(
    leaf: Presented,
    others: Sequence[Presented],
    authorities: Iterable[Presented],
    now: datetime | None,
    check: PathCheck | None = None,
) -> tuple[Presented, ...]:
    """The path from ``leaf`` to one of the ``authorities``, which ends it.

    ``others`` are what the peer presented beside its leaf, in any order; those that do not belong to the path are
    ignored, and of several with one subject and key the first that is valid ``now`` counts. The caller checks the
    leaf's own time and the rules for an SVID. With ``now`` None no certificate's time is checked. A path that ``check``
    refuses does not count. Raises NoPathError: that of ``check`` if only it prevents the path.
    """
    return _Search(leaf, _ancestors(leaf, others, now), now, check).path(list(authorities))


@lru_cache(maxsize=64)
def trusted(authorities: tuple[x509.Certificate, ...]) -> tuple[Presented, ...]:
    """The authorities of a bundle that may sign: without this a leaf in a bundle would be its own authority.

    Cached per bundle, with their decoded parts.
    """
    found = []
    for one in authorities:
        with contextlib.suppress(*PARSE_ERRORS):
            if not signing_violations(one):
                found.append(Presented.of(one))
    return tuple(found)


def _ancestors(leaf: Presented, others: Sequence[Presented], now: datetime | None) -> list[Presented]:
    """The certificates that by name may be above the leaf, nearest first."""
    chosen: dict[tuple[bytes, bytes], Presented] = {}
    for one in others:
        kept = chosen.get((one.subject, one.spki))
        if kept is None or (not kept.valid_at(now) and one.valid_at(now)):
            chosen[one.subject, one.spki] = one
    found, generation = [], [leaf]
    while generation:
        generation = [
            one
            for one in chosen.values()
            if one not in found and one is not leaf and any(below.names_as_issuer(one) for below in generation)
        ]
        found += generation
    return found


class _Search:
    """One walk from the authorities down to the leaf, with its budget."""

    def __init__(
        self, leaf: Presented, ancestors: Sequence[Presented], now: datetime | None, check: PathCheck | None
    ) -> None:
        self._leaf, self._ancestors, self._now, self._check = leaf, ancestors, now, check
        self._signed: dict[tuple[int, int], bool] = {}
        self._bad_signatures = self._steps = 0
        #: The first reason that was found.
        self._reason = ""
        #: What the check says of the first path that is valid but for it.
        self._refused: NoPathError | None = None

    def path(self, authorities: Sequence[Presented]) -> tuple[Presented, ...]:
        named = [one for one in authorities if any(below.names_as_issuer(one) for below in self._candidates())]
        # A match by key identifier comes before one by name alone.
        for authority in sorted(named, key=lambda one: one.key_id is None):
            found = self._below((authority,))
            if found is not None:
                return found[::-1]
        if self._refused is not None:
            raise self._refused
        if not named and any(one.subject == below.issuer for one in authorities for below in self._candidates()):
            raise NoPathError("one of them has its issuer's name and another key")
        raise NoPathError(self._reason or "none of them is its issuer")

    def _candidates(self) -> Iterator[Presented]:
        yield self._leaf
        yield from self._ancestors

    def _below(self, path: tuple[Presented, ...]) -> tuple[Presented, ...] | None:
        """The whole path, authority first, if this beginning of it leads to the leaf; else None."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise NoPathError(f"gave up after {MAX_STEPS} certificates that lead nowhere")
        issuer = path[-1]
        # An authority's other rules were checked with its bundle: see ``trusted``.
        broken = () if len(path) == 1 else _broken_rules(issuer.certificate)
        wrong = f"{_called(issuer)} may not sign: {'; '.join(broken)}" if broken else _time_violation(issuer, self._now)
        if wrong:
            self._reason = self._reason or wrong
            return None
        for one in self._candidates():
            if one in path or not one.names_as_issuer(issuer) or not self._is_signed(one, issuer):
                continue
            found = self._check_complete((*path, one)) if one is self._leaf else self._below((*path, one))
            if found is not None:
                return found
        return None

    def _check_complete(self, path: tuple[Presented, ...]) -> tuple[Presented, ...] | None:
        """The path, of valid signatures and signers, if it breaks no rule as a whole and the check accepts it."""
        wrong = _depth_violation(path) or _names_violation(path) or policy_violation(path[1:])
        if wrong:
            self._reason = self._reason or wrong
            return None
        refused = self._check(path) if self._check is not None else None
        if refused is not None:
            self._refused = self._refused or refused
            return None
        return path

    def _is_signed(self, one: Presented, issuer: Presented) -> bool:
        edge = id(one), id(issuer)
        if edge not in self._signed:
            self._signed[edge] = signature_holds(one.certificate, issuer.certificate)
            if not self._signed[edge]:
                self._reason = self._reason or "signature does not match"
                self._bad_signatures += 1
                if self._bad_signatures >= MAX_BAD_SIGNATURES:
                    raise NoPathError(f"{self._reason}; gave up after {MAX_BAD_SIGNATURES} bad signatures")
        return self._signed[edge]


def signature_holds(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the key of ``issuer`` signed ``certificate``, with a digest that counts here."""
    try:
        digest = certificate.signature_hash_algorithm
        if not isinstance(digest, _DIGESTS) and certificate.signature_algorithm_oid != SignatureAlgorithmOID.ED25519:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *PARSE_ERRORS):
        return False
    return True


@lru_cache(maxsize=256)
def _broken_rules(vouched_for: x509.Certificate) -> tuple[str, ...]:
    """Cached, because most peers have the same signers; only what an authority signed gets in here."""
    return tuple(signing_violations(vouched_for))


def _time_violation(signer: Presented, now: datetime | None) -> str | None:
    if now is None:
        return None
    if now > signer.not_after:
        return f"{_called(signer)} expired at {format_moment(signer.not_after)}; our clock says {format_moment(now)}"
    if now < signer.not_before:
        return (
            f"{_called(signer)} is not valid before {format_moment(signer.not_before)};"
            f" our clock says {format_moment(now)}"
        )
    return None


def _depth_violation(path: Sequence[Presented]) -> str | None:
    for place, signer in enumerate(path[:-1]):
        constraints = extension_of(signer.certificate, x509.BasicConstraints)
        allowed = constraints.value.path_length if constraints else None
        # A self-issued one is not counted (RFC 5280, section 6.1.4 (l)).
        below = sum(one.issuer != one.subject for one in path[place + 1 : -1])
        if allowed is not None and below > allowed:
            return f"{_called(signer)} allows {allowed} CAs below it, got {below}"
    return None


def _names_violation(path: Sequence[Presented]) -> str | None:
    compared = 0
    for place, signer in enumerate(path[:-1]):
        constraints = extension_of(signer.certificate, x509.NameConstraints)
        if constraints is None:
            continue
        subtrees = (constraints.value.permitted_subtrees or []) + (constraints.value.excluded_subtrees or [])
        for below in path[place + 1 :]:
            if below.issuer == below.subject and below is not path[-1]:
                continue  # self-issued (RFC 5280, section 6.1.3 (b))
            alternatives = extension_of(below.certificate, x509.SubjectAlternativeName)
            names = names_of(below.certificate, alternatives.value if alternatives else ())
            compared += len(names) * len(subtrees)
            if compared > MAX_COMPARISONS:
                return f"its names and its issuers' name constraints make more than {MAX_COMPARISONS} pairs to compare"
            if wrong := constraint_violation(constraints.value, names):
                return f"certificate {format_serial(below.certificate)} has {wrong}"
    return None


def _called(signer: Presented) -> str:
    return f"CA certificate {format_serial(signer.certificate)}"
