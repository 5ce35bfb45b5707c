"""What a sidecar that starts says of an identity that it is not given: no entry, or an entry without a valid SVID."""

from __future__ import annotations

from pathlib import Path

from meshtls.agent.service import Agent, Endpoint
from meshtls.cli.sidecar import source_of
from meshtls.observe.metrics.workload_api import IdentityFailure
from meshtls.sidecar.config import parse_config
from meshtls.sidecar.settings import SidecarConfig
from meshtls.workload.background import in_background
from meshtls.workload.x509_source import X509Source
from tests.integration.agent.test_workload_api import BrokenCa
from tests.support.agent import agent_at, entry, eventually, short_directory


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
                assert await said(source_of(sidecar(agent, "/mail"))) == (
                    "a valid SVID: wanted an SVID of spiffe://example.org/mail, got spiffe://example.org/db; create an"
                    " entry for it, or correct spiffe_id"
                )
