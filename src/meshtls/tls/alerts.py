"""Has OpenSSL send a fatal alert, in the handshake or after it: ``ssl`` has no call for alerts."""

from __future__ import annotations

from collections.abc import Callable

from meshtls.wire.tls import IMPOSSIBLE_KEY_UPDATE

__all__ = ["provoke_alert"]


def provoke_alert(feed: Callable[[bytes], object], step: Callable[[], object]) -> None:
    """Feed OpenSSL a KeyUpdate that no peer may send and take a step: the alert, unexpected_message, is then in its
    output. Raises what ``step`` raises of the impossible message.
    """
    feed(IMPOSSIBLE_KEY_UPDATE)
    step()
