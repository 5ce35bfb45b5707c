"""The order in which SVIDs are signed, and a workload's view while one of its SVIDs is being signed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from grpclib.client import Channel

from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.agent.upstream import EntryCsr, SigningResult
from meshtls.proto.envoy import discovery_pb as pb
from meshtls.proto.envoy.secret_grpc import SecretDiscoveryServiceStub
from meshtls.registration import Entry
from meshtls.workload.client import WorkloadApiClient
from tests.support.agent import entry, eventually
from tests.support.authority import make_authority
from tests.support.clock import ManualClock

OTHERS = "unix:uid:4294967294"


class SlowUpstream(EmbeddedUpstream):
    """Signs a batch when ``allow`` lets it."""

    def __init__(self, clock: ManualClock, entries: Sequence[Entry]) -> None:
        super().__init__(make_authority("example.org", clock), clock, entries)
        self.asked: asyncio.Queue[list[str]] = asyncio.Queue()
        self._allowed = asyncio.Semaphore(0)

    def allow(self, batches: int = 1) -> None:
        for _ in range(batches):
            self._allowed.release()

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        self.asked.put_nowait([one.entry_id for one in requests])
        await self._allowed.acquire()
        return await super().sign_x509(requests)


@asynccontextmanager
async def slow_agent(directory: Path, *entries: Entry) -> AsyncIterator[tuple[Agent, SlowUpstream, ManualClock]]:
    clock = ManualClock()
    upstream = SlowUpstream(clock, entries)
    async with Agent(Endpoint(directory / "agent.sock"), upstream, clock, jitter=lambda: 0.0) as agent:
        yield agent, upstream, clock


def waited_for(agent: Agent, wanted: Entry) -> bool:
    return bool(agent.identities.cache.watchers.concerned(wanted))


async def test_an_awaited_svid_is_signed_before_those_that_were_due_earlier(directory: Path) -> None:
    many = [entry(f"/other/{n}", OTHERS) for n in range(500)]
    async with (
        slow_agent(directory, *many, entry("/late")) as (agent, upstream, _),
        WorkloadApiClient(agent.address) as client,
    ):
        first = await upstream.asked.get()
        assert set(first) <= {one.id for one in many}
        fetching = asyncio.create_task(client.fetch_x509_context())
        await eventually(lambda: waited_for(agent, entry("/late")))
        upstream.allow()
        assert (await upstream.asked.get())[0] == "/late"
        upstream.allow()
        assert str((await fetching).svid.spiffe_id) == "spiffe://example.org/late"


async def test_an_awaited_new_entry_is_signed_next(directory: Path) -> None:
    many = [entry(f"/other/{n}", OTHERS) for n in range(500)]
    async with (
        slow_agent(directory, entry("/web")) as (agent, upstream, _),
        WorkloadApiClient(agent.address) as client,
        aclosing(client.watch_x509_contexts()) as contexts,
    ):
        upstream.allow()
        assert [svid.spiffe_id.path for svid in (await anext(contexts)).svids] == ["/web"]
        assert await upstream.asked.get() == ["/web"]
        for one in many:
            upstream.put_entry(one)
        assert set(await upstream.asked.get()) <= {one.id for one in many}
        upstream.put_entry(entry("/new"))
        upstream.allow()
        assert (await upstream.asked.get())[0] == "/new"
        upstream.allow()
        assert [svid.spiffe_id.path for svid in (await anext(contexts)).svids] == ["/web", "/new"]


@pytest.mark.parametrize("signed_in_time", [True, False])
async def test_a_new_caller_waits_a_second_for_an_svid_that_is_being_signed_if_it_has_others(
    directory: Path, signed_in_time: bool
) -> None:
    async with (
        slow_agent(directory, entry("/web")) as (agent, upstream, clock),
        WorkloadApiClient(agent.address) as client,
    ):
        upstream.allow()
        await agent.ready()
        upstream.put_entry(entry("/new"))
        assert [await upstream.asked.get() for _ in range(2)] == [["/web"], ["/new"]]
        async with aclosing(client.watch_x509_contexts()) as contexts:
            first = asyncio.ensure_future(anext(contexts))
            await eventually(lambda: 1.0 in clock.wakes_in)
            if signed_in_time:
                upstream.allow()
            else:
                clock.advance(1)
            paths = [svid.spiffe_id.path for svid in (await first).svids]
            assert paths == (["/web", "/new"] if signed_in_time else ["/web"])
            if not signed_in_time:
                upstream.allow()
                assert [svid.spiffe_id.path for svid in (await anext(contexts)).svids] == ["/web", "/new"]


async def test_an_sds_fetch_waits_for_the_secret_that_is_being_signed(directory: Path) -> None:
    async with slow_agent(directory, entry("/web")) as (agent, upstream, _):
        await upstream.asked.get()
        channel = Channel(path=str(agent.endpoint.socket_path))
        sds = SecretDiscoveryServiceStub(channel)
        fetching = asyncio.create_task(sds.FetchSecrets(pb.DiscoveryRequest(resource_names=["default"])))
        await eventually(lambda: waited_for(agent, entry("/web")))
        assert not fetching.done()
        upstream.allow()
        assert len((await fetching).resources) == 1
        channel.close()
