"""Three servers, each below the one before, with their agents: real processes, as operators run them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import MeshtlsError, PeerError, RevokedError
from meshtls.spiffeid import TrustDomain
from meshtls.svid.jwt import parse_and_validate
from meshtls.svid.trust import Trust
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import format_serial, issuer_key_id_of
from meshtls.workload.x509_source import X509Source
from tests.integration.cli.identity_site import AgentProcess, ServerProcess, running_agent, running_server, tell
from tests.integration.cli.processes import started
from tests.support.agent import short_directory
from tests.support.ports import free_ports
from tests.support.postgres import running_postgres
from tests.support.spire import PYTHON, Spire, running_spire

TD = TrustDomain("example.org")
#: Three servers look at the one above every two seconds, on a machine that does other things, too.
_SECONDS = 90.0

pytestmark = pytest.mark.timeout(400)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.1)


def upstream(above: AgentProcess) -> str:
    """The lines of a server's file that put it below the server of this agent."""
    host, port = above.server.said["address"].split(":")
    return (
        "upstream_authority:\n  meshtls:\n"
        f"    server_address: {host}\n    server_port: {port}\n    workload_api_socket: unix://{above.socket}\n"
    )


@dataclass(frozen=True)
class Nested:
    """``servers``: the top one first, each with its agent."""

    servers: list[ServerProcess]
    agents: list[AgentProcess]

    def bundle(self, level: int) -> TrustBundle:
        return TrustBundle.from_jwks(TD, self.servers[level].tell("bundle", "show", "--format", "spiffe").out)

    def states(self, level: int, *more: str) -> dict[str, str]:
        found = self.servers[level].json("authority", "show", *more)
        return {one["id"]: one["state"] for one in found["authorities"]}

    def active(self, level: int) -> list[str]:
        return [name for name, state in self.states(level).items() if state == "ACTIVE"]

    def workload_chain(self, directory: Path) -> list[x509.Certificate]:
        """The SVID that the agent of the lowest server gives a workload."""
        agent = self.agents[-1]
        told = agent.tell("fetch", "x509", "--write", directory)
        assert told.code == 0, told.err
        return x509.load_pem_x509_certificates((directory / "svid.pem").read_bytes())

    def accepted_by(self, level: int, chain: list[x509.Certificate]) -> bool:
        now = datetime.now(UTC)
        try:
            verify_peer([one.public_bytes(Encoding.DER) for one in chain], BundleSet([self.bundle(level)]), now)
        except MeshtlsError:
            return False
        return True


@pytest.fixture(params=["sqlite", "postgres"])
def nested(request: pytest.FixtureRequest) -> Iterator[Nested]:
    with ExitStack() as opened:
        stores = [""] * 3
        if request.param == "postgres":
            cluster = opened.enter_context(running_postgres())
            stores = [f"datastore:\n  postgres:\n    connection_string: {cluster.new_database()}\n" for _ in stores]
        servers: list[ServerProcess] = []
        agents: list[AgentProcess] = []
        for level, store in enumerate(stores):
            above = upstream(agents[-1]) if agents else ""
            servers.append(opened.enter_context(running_server(store + above)))
            agents.append(opened.enter_context(running_agent(servers[-1])))
            role = ("/web",) if level == 2 else (f"/server/{level}", "--downstream")
            opened.enter_context(agents[-1].identity(*role))
        yield Nested(servers, agents)


def test_three_levels_trust_each_other_and_follow_a_rotation_a_taint_and_a_revocation_at_the_top(
    nested: Nested, tmp_path: Path
) -> None:
    [first] = nested.states(0)
    chain = nested.workload_chain(tmp_path)
    assert len(chain) == 3, "the leaf, the lowest server's CA, and that of the one in the middle"
    assert issuer_key_id_of(chain[-1]) == first
    assert all(nested.accepted_by(level, chain) for level in range(3))
    _tokens_of_the_lowest_are_valid_at_the_top(nested)

    second = nested.servers[0].json("authority", "prepare")["id"]
    until(lambda: all(nested.states(level).get(second) == "PREPARED" for level in (1, 2)))
    until(lambda: nested.servers[0].tell("authority", "activate").code == 0)
    until(lambda: all(nested.active(level) == [second] for level in range(3)))
    assert nested.accepted_by(0, chain), "what hangs on the old one is valid until it is replaced"

    nested.servers[0].json("authority", "taint", first)
    until(lambda: all(nested.states(level).get(first) == "TAINTED" for level in (1, 2)))
    until(lambda: issuer_key_id_of(nested.workload_chain(tmp_path)[-1]) == second)
    until(lambda: nested.servers[0].tell("authority", "revoke", first).code == 0)
    until(lambda: all(len(nested.bundle(level).x509_authorities) == 1 for level in range(3)))
    renewed = nested.workload_chain(tmp_path)
    for level in range(3):
        assert nested.accepted_by(level, renewed)
        assert not nested.accepted_by(level, chain)


def test_a_revoked_ca_is_refused_below_every_server_and_replaced_unless_its_entry_is_revoked() -> None:
    with ExitStack() as opened:
        top = opened.enter_context(running_server())
        above = opened.enter_context(running_agent(top))
        entry = opened.enter_context(above.identity("/servers", "--downstream"))
        ours, other = (opened.enter_context(running_server(upstream(above))) for _ in range(2))
        beside = opened.enter_context(running_agent(other))
        opened.enter_context(beside.identity("/web"))
        chain, foreign = minted(ours), minted(other)
        assert refusal(above, chain) is refusal(beside, chain) is None
        shown = top.tell("authority", "show").out
        assert "\n  2 are CAs of servers below; what they have signed is not counted here\n" in f"{shown}\n", shown

        top.json("revoke", "--serial", format_serial(chain[1]), "--reason", "key-compromise")
        until(lambda: isinstance(refusal(above, chain), RevokedError))
        until(lambda: isinstance(refusal(beside, chain), RevokedError))
        until(lambda: minted(ours)[1] != chain[1])
        renewed = minted(ours)
        assert refusal(above, renewed) is refusal(beside, renewed) is None
        assert refusal(above, foreign) is refusal(beside, foreign) is None

        assert top.json("revoke", "--entry", entry)["revoked_cas"] == 2
        until(lambda: ours.tell("authority", "prepare").code != 0)
        top.json("readmit", "--entry", entry)
        until(lambda: ours.tell("authority", "prepare").code == 0)


def test_a_server_below_is_told_that_its_entry_has_to_be_marked_downstream() -> None:
    with (
        running_server() as above,
        running_agent(above) as agent,
        agent.identity("/below") as entry,
        short_directory() as directory,
    ):
        file = directory / "server.yaml"
        file.write_text(f"trust_domain: {TD}\nbind_port: 0\ndata_dir: {directory}/data\n{upstream(agent)}")
        with started("server", "run", "--config", file, "--output", "json") as process:
            # It may say before that there is no answer yet.
            process.line(
                f"is the server there running, and is the entry of spiffe://{TD}/below there marked downstream? If not,"
                " mark it: `meshtls entry update ... --downstream`"
            )
            above.json("entry", "update", "--entry-id", entry, "--downstream")
            process.line('"serving"', "stdout")
            assert process.stop() == 0


def minted(server: ServerProcess) -> list[x509.Certificate]:
    told = server.json("x509", "mint", "--spiffe-id", "spiffe://example.org/db")
    return x509.load_pem_x509_certificates(told["svid.pem"].encode())


def refusal(agent: AgentProcess, chain: list[x509.Certificate]) -> MeshtlsError | None:
    """Why a workload of this agent refuses the chain."""

    async def trust() -> Trust:
        async with X509Source(f"unix://{agent.socket}") as source:
            context = source.snapshot()
        return Trust(1, context.bundles, context.revocations)

    try:
        verify_peer([one.public_bytes(Encoding.DER) for one in chain], asyncio.run(trust()), datetime.now(UTC))
    except PeerError as error:
        return error
    return None


def _tokens_of_the_lowest_are_valid_at_the_top(nested: Nested) -> None:
    said: dict[str, Any] = nested.servers[2].json(
        "jwt", "mint", "--spiffe-id", "spiffe://example.org/web", "--audience", "db"
    )
    trust = BundleSet([nested.bundle(0)])
    assert (
        str(parse_and_validate(said["token"], trust, "db", datetime.now(UTC)).spiffe_id) == "spiffe://example.org/web"
    )


def test_the_port_for_spire_servers_presents_spires_id_and_serves_downstream_servers_only(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with (
        running_server(f"downstream_spire_listen: 127.0.0.1:{port}\n") as server,
        running_agent(server) as agent,
        agent.identity("/below", "--downstream", "--admin"),
    ):
        lines = upstream(agent).replace(server.said["address"].split(":")[1], str(port), 1)
        with running_server(lines.replace("  meshtls:", "  spire:")) as below:
            assert Nested([server, below], [agent]).active(1) == Nested([server], [agent]).active(0)
        told = tell("entry", "show", "--server", f"127.0.0.1:{port}", "--workload-socket", agent.socket)
        assert told.code != 0, "administrators call another port"
        told = tell("entry", "show", "--server", server.said["address"], "--workload-socket", agent.socket)
        assert told.code == 0, told.err


def test_a_spire_server_below_ours_gets_its_ca_and_follows_a_rotation_and_a_taint(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with (
        running_server(f"downstream_spire_listen: 127.0.0.1:{port}\n") as server,
        running_agent(server) as agent,
        agent.identity("/spire-below", "--downstream"),
        short_directory() as directory,
    ):
        plugin = f'''
            UpstreamAuthority "spire" {{
                plugin_data {{
                    server_address = "127.0.0.1"
                    server_port = "{port}"
                    workload_api_socket = "{agent.socket}"
                }}
            }}'''
        with running_spire(directory, "example.org", plugin) as spire, spire.entry("/web", PYTHON):
            top = Nested([server], [agent])
            [first] = top.active(0)
            until(lambda: _token_of(spire, top))
            assert top.accepted_by(0, asyncio.run(_chain_of(spire)))
            second = server.json("authority", "prepare")["id"]
            until(lambda: server.tell("authority", "activate").code == 0)
            server.json("authority", "taint", first)
            until(lambda: issuer_key_id_of(asyncio.run(_chain_of(spire))[-1]) == second)
            assert top.accepted_by(0, asyncio.run(_chain_of(spire)))


async def _chain_of(spire: Spire) -> list[x509.Certificate]:
    async with X509Source(spire.workload_api) as source:
        return list(source.snapshot().svid.chain)


def _token_of(spire: Spire, top: Nested) -> bool:
    """Whether a token of SPIRE is valid at the top: SPIRE publishes its key there."""
    said = json.loads(
        spire.tell("jwt", "mint", "-spiffeID", "spiffe://example.org/web", "-audience", "db", "-output", "json")
    )
    try:
        parse_and_validate(said["svid"]["token"], BundleSet([top.bundle(0)]), "db", datetime.now(UTC))
    except MeshtlsError:
        return False
    return True
