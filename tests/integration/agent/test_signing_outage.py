"""What an agent logs while its CA can't be reached and SVIDs of different ends expire."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.agent.upstream import EntryCsr, SigningResult
from meshtls.errors import LocalIdentityError
from meshtls.registration import Entry
from tests.support.agent import entry, eventually
from tests.support.authority import make_authority
from tests.support.clock import ManualClock

#: The longest time until the next attempt.
LATER = timedelta(seconds=90)


class FailingUpstream(EmbeddedUpstream):
    """Can't be reached while ``away``."""

    def __init__(self, clock: ManualClock, entries: Sequence[Entry]) -> None:
        super().__init__(make_authority("example.org", clock), clock, entries)
        self.away = False

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        if self.away:
            raise LocalIdentityError("the server can't be reached")
        return await super().sign_x509(requests)


async def test_svids_that_expire_one_after_another_have_one_cause_and_a_line_each(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    names = ("web", "orders", "db")
    entries = [entry(f"/{name}", ttl=60 * number) for number, name in enumerate(names, 1)]
    upstream = FailingUpstream(clock, entries)
    async with Agent(Endpoint(directory / "agent.sock"), upstream, clock, jitter=lambda: 0.0) as agent:
        await agent.ready()
        upstream.away = True
        ends = [svid.not_after for one in entries if (svid := agent.identities.cache.svid_of(one.id))]

        def tried_after_the_last_end() -> bool:
            schedules = [agent.identities.cache.schedule_of(one.id) for one in entries]
            return clock.now() > max(ends) and all(one and one.due > max(ends) + LATER for one in schedules)

        await eventually(tried_after_the_last_end, clock)
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    warned = [text for text in warned if "could not be signed" in text]
    assert not [text for text in warned if "another cause" in text]
    ended = [f"of spiffe://example.org/{name} the present one expired" for name in names]
    assert [words for text in warned for words in ended if words in text] == ended
    assert len(warned) == 1 + len(names)
