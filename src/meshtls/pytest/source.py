"""A source of X509-SVIDs that a test controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from meshtls.bundle import BundleSet
from meshtls.errors import IdentityWithdrawnError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid

__all__ = ["MeshSource"]


class MeshSource:
    """An X509ContextSource. Unlike a source in production it also returns an expired SVID."""

    def __init__(self, issue: Callable[[], X509Svid], bundles: BundleSet) -> None:
        self._issue = issue
        self._current = X509Context(1, (issue(),), bundles)
        self._revoked = False

    @property
    def spiffe_id(self) -> SpiffeId:
        return self._current.svid.spiffe_id

    @property
    def serial(self) -> str:
        """The serial number of the current certificate, in hexadecimal."""
        return self._current.svid.serial

    def snapshot(self) -> X509Context:
        """The present context. Raises IdentityWithdrawnError after ``revoke``."""
        if self._revoked:
            raise IdentityWithdrawnError(f"X509-SVID withdrawn: {self.spiffe_id} was revoked by the test")
        return self._current

    def rotate(self) -> X509Context:
        """Issue a new key and certificate for the same ID, as the next generation. Also undoes ``revoke``."""
        old, self._revoked = self._current, False
        self._current = replace(old, generation=old.generation + 1, svids=(self._issue(),))
        return self._current

    def revoke(self) -> None:
        """Withdraw the identity, as a Workload API does: new connections fail until ``rotate``."""
        self._revoked = True

    def __repr__(self) -> str:
        svid = self._current.svid
        return f"<MeshSource {svid.spiffe_id} gen {self._current.generation} until {svid.not_after:%Y-%m-%dT%H:%M:%SZ}>"
