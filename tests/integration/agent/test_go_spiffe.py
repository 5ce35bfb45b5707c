"""go-spiffe, unmodified, as a client of our agent, and as the other side of our ``listen`` and ``dial``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshtls.errors import HandshakeError, NotAuthorizedError
from meshtls.policy.authorizer import authorize_id
from meshtls.tls.streams import dial, listen
from meshtls.workload.jwt_source import JwtSource
from meshtls.workload.x509_source import X509Source
from tests.support.agent import Mesh, agent_at, entry
from tests.support.clock import ManualClock
from tests.support.gospiffe import GoPeer, Json, build_go_peer, echo_line, go_peer

PEER, APP, OTHER = (f"spiffe://example.org/{name}" for name in ("peer", "app", "other"))
SECONDS = 60
#: OpenSSL as a client sends this alert unencrypted, and Go reports it as a malformed record.
REFUSED_BY_A_CLIENT = ("local error: tls: bad record MAC", "remote error: tls: unknown certificate authority")
pytestmark = pytest.mark.timeout(900)  # the first build compiles gRPC


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_go_peer(tmp_path_factory.mktemp("go"))


@pytest.fixture
async def two(directory: Path, program: Path) -> AsyncIterator[Mesh]:
    """The Go program and the test run as one user and are distinguished by their programs.

    After a rotation both old and new SVIDs are valid.
    """
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=32))
    entries = [entry("/peer", f"unix:path:{program}"), entry("/app", f"unix:path:{os.readlink('/proc/self/exe')}")]
    async with agent_at(directory / "agent.sock", *entries, clock=clock) as mesh:
        yield mesh


def ids(told: Json) -> list[str]:
    assert told["event"] == "x509", told
    found: list[str] = told["ids"]
    return found


async def rotated(mesh: Mesh, source: X509Source) -> None:
    before = source.snapshot().generation
    await mesh.clock.until_sleepers(1)
    mesh.clock.advance(1801)
    await source.changed(before)


async def greeted(peer: GoPeer, address: tuple[str, int], source: X509Source) -> str:
    """Call the Go program; the serial number of the SVID that it presented."""
    reader, writer = await dial(*address, source, authorize_id(PEER))
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    assert await peer.told() == {"event": "served", "peer": APP, "text": "hello"}
    serial: str = writer.get_extra_info("ssl_object").peer.serial
    writer.close()
    await writer.wait_closed()
    return serial


class TestWorkloadApi:
    async def test_the_go_spiffe_watch_follows_entries_and_rotations_and_is_denied_after_the_last_entry(
        self, mesh: Mesh, program: Path
    ) -> None:
        mesh.upstream.put_entry(entry("/web", federates_with=["partner.org"]))
        async with go_peer(program, mesh.agent.address, "watch") as peer:
            first = await peer.told()
            assert (ids(first), first["domains"]) == (["spiffe://example.org/web"], ["example.org", "partner.org"])
            mesh.upstream.put_entry(entry("/db"))
            second = await peer.told()
            assert ids(second) == ["spiffe://example.org/web", "spiffe://example.org/db"]
            await mesh.clock.until_sleepers(1)
            mesh.clock.advance(1801)
            third = await peer.told()
            assert ids(third) == ids(second)
            assert not set(second["serials"]) & set(third["serials"])
            mesh.upstream.remove_entry("/db")
            assert ids(await peer.told()) == ["spiffe://example.org/web"]
            mesh.upstream.remove_entry("/web")
            denied = await peer.told()
            assert (denied["event"], denied["code"]) == ("error", "PermissionDenied")
            assert "no identity issued" in denied["error"]

    async def test_the_go_spiffe_watch_recovers_after_a_denial(self, mesh: Mesh, program: Path) -> None:
        mesh.upstream.remove_entry("/web")
        async with go_peer(program, mesh.agent.address, "watch") as peer:
            assert (await peer.told())["code"] == "PermissionDenied"
            mesh.upstream.put_entry(entry("/web"))
            assert ids(await peer.told()) == ["spiffe://example.org/web"]

    async def test_go_spiffe_fetches_a_token_that_all_three_sides_validate(self, mesh: Mesh, program: Path) -> None:
        async with go_peer(program, mesh.agent.address, "jwt") as peer, JwtSource(mesh.agent.address) as source:
            assert await peer.told() == {"event": "ready"}
            fetched = await peer.ask("fetch", "db")
            assert (fetched["ids"], fetched["audience"]) == (["spiffe://example.org/web"], ["db"])
            for judge in ("check", "ask"):
                assert await peer.ask(judge, "db", fetched["token"]) == fetched
            assert str(source.validate(fetched["token"], "db").spiffe_id) == "spiffe://example.org/web"
            assert (await peer.ask("check", "db", (await source.fetch("db")).token))["ids"] == fetched["ids"]

    @pytest.mark.parametrize(
        ("judge", "message"),
        [("check", 'expected audience in ["mail"] (audience=["db"])'), ("ask", "it is meant for 'db', not for 'mail'")],
    )
    async def test_a_token_for_another_audience_is_refused(
        self, mesh: Mesh, program: Path, judge: str, message: str
    ) -> None:
        async with go_peer(program, mesh.agent.address, "jwt") as peer:
            await peer.told()
            token = (await peer.ask("fetch", "db"))["token"]
            refused = await peer.ask(judge, "mail", token)
            assert refused["event"] == "refused"
            assert message in refused["error"]
            assert (await peer.ask(judge, "db", token))["event"] == "jwt"


class TestMutualTls:
    async def test_go_spiffe_reaches_our_listener_and_follows_a_rotation(self, two: Mesh, program: Path) -> None:
        serials: list[str] = []

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serials.append(writer.get_extra_info("ssl_object").peer.serial)
            await echo_line(reader, writer)

        answered = {"event": "answered", "peer": APP, "text": "hello"}
        async with (
            X509Source(two.agent.address) as source,
            await listen("127.0.0.1", 0, source, authorize_id(PEER), note) as listener,
            go_peer(program, two.agent.address, "dial") as peer,
        ):
            await peer.told()
            address = f"127.0.0.1:{listener.address[1]}"
            assert await peer.ask(address, APP) == answered
            await rotated(two, source)
            async with asyncio.timeout(SECONDS):
                while len(set(serials)) == 1:
                    assert await peer.ask(address, APP) == answered

    async def test_each_side_refuses_another_id_where_it_calls_us(self, two: Mesh, program: Path) -> None:
        async with (
            X509Source(two.agent.address) as source,
            await listen("127.0.0.1", 0, source, authorize_id(PEER), echo_line) as ours,
            await listen("127.0.0.1", 0, source, authorize_id(OTHER), echo_line) as others,
            go_peer(program, two.agent.address, "dial") as peer,
        ):
            await peer.told()
            verdicts = {
                "we": await peer.ask(f"127.0.0.1:{others.address[1]}", APP),
                "it": await peer.ask(f"127.0.0.1:{ours.address[1]}", OTHER),
                "nobody": await peer.ask(f"127.0.0.1:{ours.address[1]}", APP),
            }
        assert verdicts["nobody"]["event"] == "answered"
        assert verdicts["we"] == {"event": "refused", "error": "remote error: tls: unknown certificate authority"}
        assert verdicts["it"]["event"] == "refused"
        assert f'unexpected ID "{APP}"' in verdicts["it"]["error"]

    async def test_we_reach_its_listener_and_follow_a_rotation(self, two: Mesh, program: Path) -> None:
        async with (
            X509Source(two.agent.address) as source,
            go_peer(program, two.agent.address, "listen", APP) as peer,
        ):
            address = await peer.address()
            first = await greeted(peer, address, source)
            await rotated(two, source)
            async with asyncio.timeout(SECONDS):
                while await greeted(peer, address, source) == first:
                    pass

    async def test_each_side_refuses_another_id_where_we_call_it(self, two: Mesh, program: Path) -> None:
        api = two.agent.address
        async with (
            X509Source(api) as source,
            go_peer(program, api, "listen", APP) as ours,
            go_peer(program, api, "listen", OTHER) as others,
        ):
            allowing, refusing = (await ours.address(), await others.address())
            with pytest.raises(NotAuthorizedError) as denied:
                await dial(*allowing, source, authorize_id(OTHER))
            assert str(denied.value) == f"the server is {PEER}; expected: {OTHER}"
            assert (await ours.told())["error"] in REFUSED_BY_A_CLIENT
            reader, writer = await dial(*refusing, source, authorize_id(PEER))
            with pytest.raises(HandshakeError, match="bad certificate"):
                await reader.readline()
            writer.close()
            assert f'unexpected ID "{APP}"' in (await others.told())["error"]
            await greeted(ours, allowing, source)
