"""An ``on_result`` that fails: every connection, every stream and every refusal goes on as if it had worked."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from functools import partial

import pytest

from meshtls.observe.events import ConnectionResult, Outcome
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, OutboundConfig, SidecarConfig
from meshtls.sidecar.sockets import address_of
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    DEFAULTS,
    A,
    B,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    patient,
    rest,
)
from tests.support.waiting import until

ERRORS = [OSError("no space left"), ValueError("I/O operation on closed file"), ZeroDivisionError("a defect")]


@dataclass
class Broken:
    """Takes note of each result, and raises."""

    error: Exception
    outcomes: list[Outcome] = field(default_factory=list)

    def __call__(self, result: ConnectionResult) -> None:
        self.outcomes.append(result.outcome)
        raise self.error


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("tunnel", [False, True])
async def test_connections_and_streams_go_on_where_none_can_be_reported(
    tunnel: bool, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    far, near = Broken(error), Broken(error)
    async with an_app() as app:
        door = InboundConfig(listen=ANYWHERE, app=app.address, allow=(A,), tunnel=tunnel)
        config = SidecarConfig(name="b", spiffe_id=B, inbound=(door,), limits=DEFAULTS)
        async with Sidecar(config, ConstantSource(as_b()), on_result=far) as b:
            way = OutboundConfig(listen=ANYWHERE, to=b.inbound[0].address, peer=B, tunnel=tunnel)
            config = SidecarConfig(name="a", spiffe_id=A, outbound=(way,), limits=DEFAULTS)
            async with (
                Sidecar(config, ConstantSource(as_a()), on_result=near) as a,
                connected(a.outbound[0].address) as lasting,
            ):
                assert await echoed(lasting) == b"ping"
                for _ in range(3):
                    async with connected(a.outbound[0].address) as streams:
                        assert await echoed(streams) == b"ping"
                await until(lambda: len(far.outcomes) >= 3 and len(near.outcomes) >= 3)
                assert await echoed(lasting) == b"ping"
    assert near.outcomes[:3] == [Outcome.OK] * 3
    assert seen == []
    failed = [record for record in caplog.records if "on_result failed" in record.message]
    assert sorted(record.message[:9] for record in failed) == ["sidecar a", "sidecar b"]


def reported(report: Broken, number: int) -> bool:
    return len(report.outcomes) == number


@pytest.mark.parametrize("error", ERRORS)
async def test_a_refusal_at_the_limit_that_cannot_be_reported_does_not_end_the_sidecar(error: Exception) -> None:
    report = Broken(error)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        way = OutboundConfig(listen=ANYWHERE, to=address_of(silent), peer=B)
        config = SidecarConfig(name="a", spiffe_id=A, outbound=(way,), limits=patient(connections=1))
        async with Sidecar(config, ConstantSource(as_a()), on_result=report) as a:
            async with connected(a.outbound[0].address):
                await until(lambda: len(a.registry) == 1)
                for number in range(1, 4):
                    with pytest.raises(ConnectionError):
                        async with connected(a.outbound[0].address) as refused:
                            await rest(refused)
                    await until(partial(reported, report, number))
            assert report.outcomes[:3] == [Outcome.CONNECTION_LIMIT] * 3
            assert a.readiness().ready
