"""Signs SVIDs in batches: each with a new key, and verified as a peer would. A failure affects one entry only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from meshtls.agent.upstream import EntryCsr, SigningResult, Upstream
from meshtls.bundle import BundleSet
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError, MeshtlsError
from meshtls.identity.request import checked_svid, new_key, request_for
from meshtls.registration import Entry
from meshtls.svid.x509 import PrivateKey, X509Svid

__all__ = ["SigningOutcome", "sign"]

# Making the keys of a batch blocks the event loop: about 100 us each.
_BATCH = 64


@dataclass(frozen=True, slots=True)
class SigningOutcome:
    """What came of one request for an SVID. ``svid`` is the new SVID of ``entry``, or the error."""

    entry: Entry
    svid: X509Svid | MeshtlsError


async def sign(
    entries: Sequence[Entry], upstream: Upstream, bundles: BundleSet, clock: Clock
) -> AsyncGenerator[tuple[SigningOutcome, ...]]:
    """The outcomes for these entries, a batch at a time."""
    for start in range(0, len(entries), _BATCH):
        batch = entries[start : start + _BATCH]
        keys = [new_key() for _ in batch]
        answers = await _requested(upstream, batch, keys)
        yield tuple(
            SigningOutcome(entry, _checked(entry, key, answer, bundles, clock))
            for entry, key, answer in zip(batch, keys, answers, strict=True)
        )


async def _requested(upstream: Upstream, batch: Sequence[Entry], keys: Sequence[PrivateKey]) -> Sequence[SigningResult]:
    requests = [EntryCsr(entry.id, request_for(key)) for entry, key in zip(batch, keys, strict=True)]
    try:
        answers = await upstream.sign_x509(requests)
    except MeshtlsError as error:
        return [error] * len(batch)
    if len(answers) != len(batch):
        return [LocalIdentityError(f"the CA answered {len(answers)} of {len(batch)} requests")] * len(batch)
    return answers


def _checked(
    entry: Entry, key: PrivateKey, answer: SigningResult, bundles: BundleSet, clock: Clock
) -> X509Svid | MeshtlsError:
    if isinstance(answer, MeshtlsError):
        return answer
    try:
        svid = checked_svid(answer, key, bundles, clock)
    except LocalIdentityError as error:
        return error
    if svid.spiffe_id != entry.spiffe_id:
        return LocalIdentityError(f"wanted an SVID of {entry.spiffe_id}, the CA issued one of {svid.spiffe_id}")
    return svid
