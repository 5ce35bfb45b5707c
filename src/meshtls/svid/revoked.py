"""Whether anything of a path was revoked: its leaf's SPIFFE ID, a certificate, an authority, or by a CRL. Pure.

A CRL is judged only for the certificates of its own issuer, and only where a path is valid otherwise: an unverified
peer can't make this side check a CRL's signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from meshtls.spiffeid import SpiffeId
from meshtls.svid.path import NoPathError, PathCheck
from meshtls.svid.presented import Presented
from meshtls.svid.trust import ListedStatus, Revocations, issuer_key_id
from meshtls.svid.x509 import format_serial

__all__ = ["RevokedPathError", "UnknownStatusError", "path_check"]


class RevokedPathError(NoPathError):
    """There is a path, and something of it was revoked."""


class UnknownStatusError(NoPathError):
    """There is a path, and no usable CRL says whether a certificate of it was revoked."""


def path_check(revocations: Revocations, spiffe_id: SpiffeId, now: datetime | None) -> PathCheck:
    """The check for ``find_path`` of a leaf with this ID. With ``now`` None a CRL's times are not checked."""

    def check(path: Sequence[Presented]) -> NoPathError | None:
        if spiffe_id in revocations.spiffe_ids:
            return RevokedPathError("its SPIFFE ID was revoked")
        signers = [(signer, issuer_key_id(signer.spki)) for signer in path[:-1]]
        for signer, key_id in signers:
            if key_id in revocations.authorities:
                serial = format_serial(signer.certificate)
                return RevokedPathError(f"the authority of CA certificate {serial} was revoked")
        unknown: NoPathError | None = None
        for (issuer, key_id), one in zip(signers, path[1:], strict=True):
            found: ListedStatus | str = ListedStatus.GOOD
            if revocations.is_revoked(key_id, one.certificate.serial_number):
                found = ListedStatus.REVOKED
            elif revocations.lists is not None:
                found = revocations.lists.status(spiffe_id.trust_domain, one, issuer, now, is_leaf=one is path[-1])
            if found is ListedStatus.GOOD:
                continue
            serial = format_serial(one.certificate)
            if found is ListedStatus.REVOKED:
                return RevokedPathError(f"certificate {serial} was revoked by its issuer")
            unknown = unknown or UnknownStatusError(f"whether certificate {serial} was revoked is unknown: {found}")
        return unknown

    return check
