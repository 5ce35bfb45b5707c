"""What a server counts where it happens: transactions, signatures and what was issued. Pure."""

from __future__ import annotations

from meshtls.errors import MeshtlsError, RequestError
from meshtls.observe.metrics import Metrics
from meshtls.server.metrics import families

__all__ = ["Counting"]


class Counting:
    """Counts in ``metrics``. Each method is called where that ends which it counts."""

    def __init__(self, metrics: Metrics) -> None:
        store, signing = metrics.histogram(families.STORE_TIME), metrics.histogram(families.SIGNING_TIME)
        failures, issued = metrics.counter(families.STORE_FAILURES), metrics.counter(families.ISSUED)
        self._transactions = {name: store.labels(name) for name in families.OPERATION.values}
        self._store_failures = {name: failures.labels(name) for name in families.OPERATION.values}
        self._signatures = {name: signing.labels(name) for name in families.TYPE.values}
        self._signing_failures = metrics.counter(families.SIGNING_FAILURES)
        self._issued = {name: issued.labels(name) for name in families.TYPE.values}
        for name in families.TYPE.values:
            for reason in ("request", "authority"):
                self._signing_failures.labels(name, reason)

    def transaction(self, operation: str, seconds: float, *, failed: bool) -> None:
        """A transaction has ended: ``operation`` is read or write. ``failed``: because of the data store."""
        self._transactions[operation].observe(seconds)
        if failed:
            self._store_failures[operation].inc()

    def signed(self, kind: str, seconds: float, error: MeshtlsError | None) -> None:
        """Something of this kind was signed, or was not for this reason."""
        self._signatures[kind].observe(seconds)
        if error is not None:
            self._signing_failures.labels(kind, "request" if isinstance(error, RequestError) else "authority").inc()

    def issued(self, kind: str) -> None:
        """Something of this kind is durable in the data store."""
        self._issued[kind].inc()
