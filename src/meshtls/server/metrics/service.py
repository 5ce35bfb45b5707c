"""A server's metrics as a whole: counted where things happen, asked at a scrape."""

from __future__ import annotations

from collections.abc import Callable

from meshtls.observe.metrics import Metrics, Scrape
from meshtls.observe.metrics.kept_scrapes import KeptScrapes
from meshtls.rpc.call_metrics import CallMetrics
from meshtls.rpc.shedding import Refusals
from meshtls.server.core import Core
from meshtls.server.federating import Federation
from meshtls.server.metrics import families
from meshtls.server.metrics.counting import Counting
from meshtls.server.metrics.state import State
from meshtls.server.metrics.store_facts import AskedStore
from meshtls.server.own_svid import ServerIdentity

__all__ = ["ServerMetrics"]


class ServerMetrics:
    """Counts what happens in ``core`` from now on. ``calls`` are those of its listeners.

    Call ``follow`` before the first scrape.
    """

    def __init__(self, core: Core) -> None:
        self.metrics = Metrics()
        self.calls = CallMetrics(self.metrics, families.RPCS, families.RPC_TIME)
        self._core = core
        self._store = AskedStore(core.database, core.clock)
        self._kept = KeptScrapes(self.metrics.snapshot)
        counting = Counting(self.metrics)
        core.database.on_end = counting.transaction
        core.signing.on_signed = counting.signed
        core.ledger.on_issued = counting.issued

    def follow(
        self, identity: ServerIdentity, federation: Federation, refusals: Refusals, is_ready: Callable[[], bool]
    ) -> None:
        """Ask these at each scrape, too. ``is_ready``: whether the server is, apart from its store."""
        State(self.metrics, self._core, identity, federation, refusals, self._store, is_ready)

    async def scrape(self, accept: str = "") -> Scrape:
        """The answer to a scrape with this Accept header."""
        await self._store.ask()
        return self._kept.scrape(accept)
