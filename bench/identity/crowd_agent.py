"""An agent, in its own process, that distinguishes its callers by their connections.

``python -m bench.identity.crowd_agent SOCKET``. So one process can play a thousand workloads: each connection is
attested as usual, and gets its number as an additional selector. The agent executes commands from stdin and prints the
seconds that each took: ``fill COUNT`` creates the entries of this many workloads and waits until each has its SVID, and
``rotate`` sets the clock past the half-life of all.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Set
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from weakref import WeakKeyDictionary

from bench.certificates import TRUST_DOMAIN
from bench.identity.site import entry
from meshtls.agent.attest.attestor import Attestor, Caller, hash_always
from meshtls.agent.caller_views import CallerViews
from meshtls.agent.callers import serve_callers
from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.identities import Identities
from meshtls.agent.tokens import Tokens
from meshtls.agent.workload_api import WorkloadApi
from meshtls.ca.authority import Authority
from meshtls.clock import SystemClock
from meshtls.registration import Selector, agent_id
from meshtls.rpc.limits import DEFAULT_LIMITS
from meshtls.rpc.sockets import unix_listener
from meshtls.workload.background import in_background

_PAST_HALF_LIFE = timedelta(minutes=31)  # of SVIDs that live an hour
# All workloads of this agent are one uid.
_LIMITS = replace(DEFAULT_LIMITS, connections_per_caller=DEFAULT_LIMITS.connections, streams_per_caller=10_000)
_PARENT = agent_id(TRUST_DOMAIN, "join_token", "bench")


class _ClockAhead(SystemClock):
    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class _Numbering(Attestor):
    def __init__(self) -> None:
        super().__init__()
        self._numbers: WeakKeyDictionary[Caller, int] = WeakKeyDictionary()
        self._last = 0

    async def attest(
        self, caller: Caller, digest_wanted: Callable[[Set[Selector]], bool] = hash_always
    ) -> frozenset[Selector]:
        if caller not in self._numbers:
            self._numbers[caller] = self._last
            self._last += 1
        return await super().attest(caller, digest_wanted) | {_number(self._numbers[caller])}


async def _serve(path: Path) -> None:
    clock = _ClockAhead()
    upstream = EmbeddedUpstream(Authority.create(TRUST_DOMAIN, clock), clock)
    identities = Identities(upstream, clock, lambda: 0.0)
    api = WorkloadApi(CallerViews(identities, _Numbering()), Tokens(upstream, clock, lambda: 0.0))
    with unix_listener(path, 0o666) as listener:
        async with in_background(identities.run(), "identities"), serve_callers([api], listener, _LIMITS):
            await identities.until_ready()
            _say(0.0)
            while line := await asyncio.to_thread(sys.stdin.readline):
                began = time.perf_counter()
                match line.split():
                    case ["fill", count]:
                        await _fill(upstream, identities, int(count))
                    case ["rotate"]:
                        _rotate(upstream, clock)
                _say(time.perf_counter() - began)


async def _fill(upstream: EmbeddedUpstream, identities: Identities, count: int) -> None:
    with identities.watching() as last:
        last.follow(frozenset([_number(count - 1)]))
        for number in range(count):
            upstream.put_entry(entry(f"/crowd/{number}", _PARENT, str(_number(number))))
        await last.news.wait()
    await identities.until_ready()


def _rotate(upstream: EmbeddedUpstream, clock: _ClockAhead) -> None:
    clock.ahead += _PAST_HALF_LIFE
    # Due renewals are looked for after a change, and every half minute. An unused entry is a change.
    upstream.put_entry(entry("/nobody", _PARENT, "bench:workload:nobody"))


def _number(number: int) -> Selector:
    return Selector("bench", f"workload:{number}")


def _say(seconds: float) -> None:
    print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
