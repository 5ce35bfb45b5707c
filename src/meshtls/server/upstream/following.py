"""What a server's store has to learn from the bundle of its upstream authority. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from meshtls.ca.authority_states import PUBLISHED, AuthorityState, AuthorityStep
from meshtls.server.store.authorities import DOWNSTREAM, UPSTREAM, AuthorityRecord
from meshtls.server.store.bundles import Published, jwt_authority, x509_authority
from meshtls.serverapi.upstream import UpstreamBundle

__all__ = ["Lesson", "lessons"]

_S, _T = AuthorityState, AuthorityStep
#: The steps from each state to TAINTED and to REVOKED. One that this server has not used, others have.
_TO_TAINTED = {
    _S.PREPARED: (_T.ACTIVATE, _T.RETIRE, _T.TAINT),
    _S.ACTIVE: (_T.RETIRE, _T.TAINT),
    _S.OLD: (_T.TAINT,),
}
_TO_REVOKED = {
    _S.PREPARED: (_T.REVOKE,),
    _S.ACTIVE: (_T.RETIRE, _T.REVOKE),
    _S.OLD: (_T.REVOKE,),
    _S.TAINTED: (_T.REVOKE,),
}
_LONGEST_KID = 64


@dataclass(frozen=True, slots=True)
class Lesson:
    """One thing that the store learns from its upstream's bundle. ``new``: an authority to publish, in this state.
    Otherwise ``record`` takes these steps.
    """

    new: Published | None = None
    state: AuthorityState = AuthorityState.PREPARED
    record: AuthorityRecord | None = None
    steps: tuple[AuthorityStep, ...] = ()


def lessons(
    records: Sequence[AuthorityRecord], bundle: UpstreamBundle, in_use: Collection[str], seen: Collection[str]
) -> Iterator[Lesson]:
    """``records`` are all authorities of the store. Nothing changes of those whose name is ``in_use``: this server has
    to stop signing with them first. ``seen`` are the JWT keys that a bundle from above had, this one or an earlier one:
    a key of a server below that was never there has yet to come there, and is not revoked.
    """
    tainted = {x509_authority(one).name for one in bundle.tainted}
    present = {one.name: one for one in map(x509_authority, bundle.roots)}
    yield from _of_kind("x509", records, present, tainted, bundle.complete, in_use, seen)
    if bundle.keys is not None:
        usable = {kid: one for kid, one in bundle.keys.items() if len(kid) <= _LONGEST_KID}
        keys = {kid: jwt_authority(kid, one.key, one.ends_at) for kid, one in usable.items()}
        yield from _of_kind("jwt", records, keys, {kid for kid in usable if usable[kid].tainted}, True, in_use, seen)


def _of_kind(
    kind: str,
    records: Sequence[AuthorityRecord],
    present: dict[str, Published],
    tainted: Collection[str],
    complete: bool,
    in_use: Collection[str],
    seen: Collection[str],
) -> Iterator[Lesson]:
    known = {one.published.name: one for one in records if one.kind == kind}
    for name, published in present.items():
        if name not in known:
            # JWT keys of other servers sign already; which of the roots signs our CA is told by that CA.
            yield Lesson(published, _S.ACTIVE if kind == "jwt" else _S.PREPARED)
    for name, record in known.items():
        is_followed = record.server_id == UPSTREAM or (record.server_id == DOWNSTREAM and name in seen)
        if not is_followed or name in in_use or record.state not in PUBLISHED:
            continue
        if name in tainted and record.state in _TO_TAINTED:
            yield Lesson(record=record, steps=_TO_TAINTED[record.state])
        elif complete and name not in present:
            yield Lesson(record=record, steps=_TO_REVOKED[record.state])
