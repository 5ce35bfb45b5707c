"""A scheduler of handshakes that gives no steps while a test holds it."""

from __future__ import annotations

from meshtls.sidecar.scheduler import HandshakeScheduler

__all__ = ["HeldScheduler"]


class HeldScheduler(HandshakeScheduler):
    """As it is made, it gives steps; between ``hold`` and ``next_round`` it gives none."""

    def hold(self) -> None:
        self._left = 0

    def next_round(self) -> None:
        self._next_round()
