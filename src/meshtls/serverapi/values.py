"""Values that the server's API gives beside bundles and the model of ``registration``. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from meshtls.bundle import BundleSet
from meshtls.registration import Entry
from meshtls.spiffeid import SpiffeId

__all__ = ["Health", "JoinToken", "SyncUpdate"]


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token for one use before ``expires_at``, and the ID of the agent that attests with it."""

    token: str = field(repr=False)
    agent_id: SpiffeId
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """``waiting_for`` says why a server is not ready; it is empty for one that is."""

    ready: bool
    waiting_for: str
    trust_domain: str
    server_id: str
    version: str
    revision: int
    entries: int
    agents_connected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncUpdate:
    """One message of a sync. With ``whole`` the entries are all that the agent may serve; otherwise they are the new
    and changed ones, and ``removed`` are ids. ``bundles`` are all bundles, None where none changed. A later sync may
    resume at ``revision``.
    """

    revision: int
    whole: bool
    entries: tuple[Entry, ...]
    removed: tuple[str, ...]
    bundles: BundleSet | None
