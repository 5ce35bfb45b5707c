"""Strangers at a server's ports: administrators, agents and new nodes are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bench.raw_http2 import DATA, RawHttp2, anonymous_tls, frame, raw_http2
from meshtls.errors import AccessError, LocalIdentityError
from meshtls.rpc.shedding import Refusal
from meshtls.server.config import parse_config
from meshtls.server.run import running_server
from tests.support.server import ServerUnderTest, config_for, new_csr, started
from tests.support.waiting import SECONDS

ATTEST, BUNDLE = "/meshtls.server.v1.Attestation/AttestAgent", "/meshtls.server.v1.Attestation/GetBundle"
PORT = "attestation port"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerUnderTest]:
    async with started(config_for(tmp_path)) as running:
        yield running


async def flood(client: RawHttp2, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        await client.send(data)


async def test_rapid_reset_ends_the_connection_and_an_administrator_is_served(server: ServerUnderTest) -> None:
    async with raw_http2(server.running.attest_address, anonymous_tls()) as client:
        resets = b"".join(client.reset_call(number, BUNDLE) for number in range(1, 4001, 2))
        sending = asyncio.create_task(flood(client, resets))
        assert (await server.admin.health()).ready
        assert await client.farewell() == (0xB, Refusal.RESETS.value)
        await sending
    assert server.running.refusals.counts == {(PORT, Refusal.RESETS): 1}
    assert (await server.new_agent()).spiffe_id.path.startswith("/meshtls/agent/join_token/")


async def test_a_message_of_700_megabytes_is_refused_by_its_first_frame(server: ServerUnderTest) -> None:
    async with raw_http2(server.running.attest_address, anonymous_tls()) as client:
        begun = struct.pack(">BI", 0, 700 << 20) + bytes(1 << 13)
        await client.send(client.call(1, ATTEST) + frame(DATA, 0, 1, begun))
        answer = await client.next_headers()
        assert answer["grpc-status"] == "8"
        assert answer["grpc-message"] == "wanted a message of at most 131072 bytes, got one of 734003200"


async def test_calls_of_one_address_have_a_rate_on_the_attestation_port(tmp_path: Path) -> None:
    text = f"trust_domain: example.org\nbind_port: 0\ndata_dir: {tmp_path}/s\nlimits: {{attestations_per_second: 1}}\n"
    async with (
        running_server(parse_config("test.yaml", text)) as running,
        raw_http2(running.attest_address, anonymous_tls()) as client,
    ):
        for number in range(1, 21, 2):
            await client.send(client.call(number, BUNDLE, b""))
            await client.next_headers()
        await flood(client, b"".join(client.call(number, BUNDLE, b"") for number in range(21, 81, 2)))
        assert await client.farewell() == (0xB, Refusal.CALL_RATE.value)


@pytest.mark.parametrize("port", ["address", "attest_address"])
async def test_silent_tcp_connections_lock_no_caller_out(port: str, server: ServerUnderTest) -> None:
    where = getattr(server.running, port)
    async with AsyncExitStack() as opened:
        for _ in range(300):
            await opened.enter_async_context(raw_http2(where, greet=False))
        agent = await server.new_agent()
        assert await agent.client.sign_x509([]) == []


async def test_an_unfinished_handshake_ends_at_its_deadline(tmp_path: Path) -> None:
    text = f"trust_domain: example.org\nbind_port: 0\ndata_dir: {tmp_path}/s\nlimits: {{handshake_timeout: 200ms}}\n"
    async with running_server(parse_config("test.yaml", text)) as running:
        for where in (running.address, running.attest_address):
            async with raw_http2(where, greet=False) as client:
                await client.send(b"\x16\x03\x01\x02\x00\x01")
                assert await client.next() is None
        assert running.refusals.counts == {
            ("server port", Refusal.HANDSHAKE_TIMEOUT): 1,
            (PORT, Refusal.HANDSHAKE_TIMEOUT): 1,
        }


async def test_token_guesses_do_not_need_the_stores_writer(server: ServerUnderTest, tmp_path: Path) -> None:
    attestation = await server.attestation()
    token = await server.admin.create_join_token()
    key = ec.generate_private_key(ec.SECP256R1())
    # Meanwhile another process holds the write lock, which blocks every writer and no reader.
    path = str(config_for(tmp_path).datastore.database)
    with contextlib.closing(sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)) as other:
        # In a thread: a write of the server that is under way needs this loop to end.
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        with pytest.raises(AccessError, match="^join token: it is unknown, used or expired"):
            await asyncio.wait_for(attestation.with_token("a guess", new_csr(key)), SECONDS)
        other.execute("ROLLBACK")
    assert (await attestation.with_token(token.token, new_csr(key))).chain


async def test_token_guesses_of_one_address_have_a_rate(server: ServerUnderTest) -> None:
    attestation, request = await server.attestation(), new_csr()

    async def guess(number: int) -> str:
        with pytest.raises((AccessError, LocalIdentityError)) as error:
            await attestation.with_token(f"guess {number}", request)
        return str(error.value)

    # All at once: the budget grows while they come.
    refused = await asyncio.gather(*map(guess, range(60)))
    too_many = refused.count("join token: too many wrong ones from 127.0.0.1; try again in 1 s")
    unknown = sum(one.startswith("join token: it is unknown, used or expired") for one in refused)
    assert (too_many > 0, unknown >= 20, too_many + unknown) == (True, True, 60)
    assert server.running.refusals.counts[PORT, Refusal.GUESSES] >= 1
    assert (await server.admin.health()).ready


async def test_good_tokens_cost_nothing_of_an_addresss_budget_for_wrong_ones(server: ServerUnderTest) -> None:
    attestation = await server.attestation()
    for _ in range(30):
        token = await server.admin.create_join_token()
        assert (await attestation.with_token(token.token, new_csr())).chain


async def test_the_hook_is_called_with_each_refusal(tmp_path: Path) -> None:
    told: list[tuple[str, Refusal]] = []
    async with (
        running_server(config_for(tmp_path), refused=lambda listener, why: told.append((listener, why))) as running,
        raw_http2(running.attest_address, anonymous_tls(), greet=False) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        await client.farewell()
    assert told == [(PORT, Refusal.NOT_HTTP2)]
