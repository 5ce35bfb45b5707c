"""What a sidecar that starts, and ``meshtls check``, say of an identity that a process is not given."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from meshtls.agent.service import Agent, Endpoint
from meshtls.cli.check.workload import Seen, workload_checks
from meshtls.cli.sidecar import source_of
from meshtls.clock import Clock
from meshtls.observe.metrics.workload_api import IdentityFailure
from meshtls.sidecar.config import parse_config
from meshtls.sidecar.settings import SidecarConfig
from meshtls.spiffeid import SpiffeId
from meshtls.workload.address import UnixAddress
from meshtls.workload.background import in_background
from meshtls.workload.x509_source import X509Source
from tests.integration.agent.test_workload_api import BrokenCa
from tests.support.agent import agent_at, entry, eventually, short_directory
from tests.support.clock import ManualClock


def sidecar(agent: Agent, path: str) -> SidecarConfig:
    return parse_config(
        f"name: s\nspiffe_id: spiffe://example.org{path}\nidentity: {{workload_api: '{agent.address}'}}\n"
        "inbound: [{listen: '127.0.0.1:0', app: '127.0.0.1:1', allow: []}]\n"
    )


async def said(source: X509Source) -> str:
    """What it waits for, once it was answered."""

    async def enter() -> None:
        async with source:
            pass

    async with in_background(enter(), "enter"):
        await eventually(lambda: bool(source.failures))
        return source.readiness().text


async def checked(agent: Agent, path: str, clock: Clock) -> tuple[str, str]:
    """The reason and the advice of ``meshtls check`` on the SVID of this identity."""
    wanted = SpiffeId.parse(f"spiffe://example.org{path}")
    found = [one async for one in workload_checks(UnixAddress(str(agent.endpoint.socket_path)), wanted, clock, Seen())]
    (svid,) = (one for one in found if one.check == "the Workload API gives this process an X509-SVID")
    return svid.reason, svid.advice


async def test_the_words_say_whether_there_is_an_entry_whose_svid_was_not_renewed() -> None:
    with short_directory() as directory:
        async with agent_at(Path(directory / "a.sock"), entry("/web", ttl=60), entry("/db")) as mesh:
            upstream = BrokenCa(mesh)
            upstream.broken = False
            async with Agent(Endpoint(directory / "b.sock"), upstream, mesh.clock, jitter=lambda: 0.0) as agent:
                await agent.ready()
                # The twin: while it is valid it is given.
                async with source_of(sidecar(agent, "/web")) as source:
                    assert str(source.snapshot().svid.spiffe_id) == "spiffe://example.org/web"
                upstream.broken = True
                mesh.clock.advance(61)
                expired = source_of(sidecar(agent, "/web"))
                assert await said(expired) == (
                    "a valid SVID: wanted an SVID of spiffe://example.org/web, got spiffe://example.org/db; it has an"
                    " entry, and the agent has no valid SVID: `meshtls admin ready` of the agent says why"
                )
                assert dict(expired.failures) == {IdentityFailure.OTHER_IDENTITY: 1}
                assert await checked(agent, "/web", mesh.clock) == (
                    "other_identity: wanted an SVID of spiffe://example.org/web, got spiffe://example.org/db",
                    "it has an entry, and the agent has no valid SVID: `meshtls admin ready` of the agent says why",
                )
                assert await said(source_of(sidecar(agent, "/mail"))) == (
                    "a valid SVID: wanted an SVID of spiffe://example.org/mail, got spiffe://example.org/db; create an"
                    " entry for it, or correct spiffe_id"
                )
                assert await checked(agent, "/mail", mesh.clock) == (
                    "other_identity: wanted an SVID of spiffe://example.org/mail, got spiffe://example.org/db",
                    "create an entry for it, or correct spiffe_id",
                )


async def test_the_check_names_an_svid_that_has_expired_as_the_log_of_a_source_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with short_directory() as directory:
        async with agent_at(Path(directory / "a.sock"), entry("/web", ttl=60)) as mesh:
            agent = mesh.agent
            assert await checked(agent, "/web", mesh.clock) == ("spiffe://example.org/web", "")
            ahead = ManualClock(mesh.clock.now() + timedelta(hours=2))
            reason, advice = await checked(agent, "/web", ahead)
            assert advice.startswith("if our clock is wrong, correct the clock of this machine: ")
            assert re.fullmatch(r"expired: spiffe://example\.org/web expired at \S+Z; our clock says \S+Z", reason)
            source = X509Source(agent.address, clock=ahead)
            await said(source)
            words = reason.removeprefix("expired: ")
            logged = f"X509-SVID: expired: the Workload API sent only expired X509-SVIDs: {words}; trying again"
            assert logged in caplog.messages
