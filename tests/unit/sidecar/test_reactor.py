"""A loop has one reactor: its sidecars share the poller, the idle timer, the scheduler and the buffers."""

from __future__ import annotations

import asyncio

from meshtls.address import Address
from meshtls.sidecar.loop import new_loop
from meshtls.sidecar.reactor import Reactor, running_reactor
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, SidecarConfig
from meshtls.svid.context import ConstantSource
from tests.support.authority import context_for, make_authority


async def test_a_loop_has_one_reactor() -> None:
    assert running_reactor() is running_reactor()
    assert running_reactor().loop is asyncio.get_running_loop()
    assert repr(running_reactor()).startswith("<Reactor <EpollPoller [0 sockets]> <IdleWatch {}> <HandshakeScheduler [")


def test_another_loop_has_another_reactor() -> None:
    async def main() -> Reactor:
        return running_reactor()

    with asyncio.Runner(loop_factory=new_loop) as one, asyncio.Runner(loop_factory=new_loop) as other:
        assert one.run(main()) is not other.run(main())


async def test_sidecars_of_a_loop_share_its_reactor_and_one_that_is_given_another_takes_that() -> None:
    snapshot = context_for(make_authority("example.org"), "/b")
    inbound = InboundConfig(listen=Address("127.0.0.1", 0), app=Address("127.0.0.1", 1))
    config = SidecarConfig(name="b", spiffe_id=snapshot.svid.spiffe_id, inbound=(inbound,))
    source, own = ConstantSource(snapshot), Reactor(asyncio.new_event_loop())
    one, other = (Sidecar(config, source, on_result=lambda _: None) for _ in range(2))
    third = Sidecar(config, source, on_result=lambda _: None, reactor=own)
    assert one.runtime.reactor is other.runtime.reactor is running_reactor()
    assert third.runtime.reactor is own
    own.loop.close()
