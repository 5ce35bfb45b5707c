"""Values of the server's API, beside bundles and the model of ``registration``. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from meshtls.bundle import BundleSet
from meshtls.registration import Entry
from meshtls.spiffeid import SpiffeId

__all__ = ["Health", "JoinToken", "SyncUpdate"]


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token that is valid once, until ``expires_at``, and the ID of the agent that attests with it."""

    token: str = field(repr=False)
    agent_id: SpiffeId
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The server's state. ``waiting_for`` says why it is not ready; empty if it is."""

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
    """One message of a sync.

    - ``entries``: with ``whole`` all that the agent may serve, otherwise the new and changed ones.
    - ``removed``: ids of removed entries.
    - ``bundles``: all bundles; None if none changed.
    - ``revision``: a later sync may resume here.
    """

    revision: int
    whole: bool
    entries: tuple[Entry, ...]
    removed: tuple[str, ...]
    bundles: BundleSet | None
