"""The transparency log of a server: what is in it, that it never forks, and what a restored data store does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
import threading
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import URL, text

from meshtls.address import Address
from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.hashing import leaf_hash
from meshtls.ca.tlog.leaf import Leaf, LeafKind
from meshtls.ca.tlog.note import KeyType, NoteKey
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError, LocalIdentityError, LogProofError, MeshtlsError, StoreError
from meshtls.rpc.small_http import Answer, Request, serve_http
from meshtls.server import log_publishing
from meshtls.server.abandon import abandon_log
from meshtls.server.log_guard import LogGuard
from meshtls.server.settings import ServerConfig, WitnessConfig
from meshtls.server.startup import opened_core, opened_database
from meshtls.server.store import transparency
from meshtls.server.store.address import postgres_url, sqlite_url
from meshtls.server.store.database import Database, run_steps
from meshtls.server.transparency import TransparencyLog
from meshtls.serverapi.log_http import HttpFailureError, http_exchange
from meshtls.serverapi.log_reader import AdminLog, LogReader
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial
from tests.support import certs
from tests.support.postgres import Postgres
from tests.support.scraping import scraped, scraped_until, value
from tests.support.server import TD, ServerUnderTest, config_for, entry, new_csr, started
from tests.support.waiting import until

WEB = SpiffeId(TD, "/web")


async def reader_of(server: ServerUnderTest) -> LogReader:
    keys = (await server.admin.read_log("keys")).decode().split()
    return LogReader(AdminLog(server.admin), [NoteKey.parse(key) for key in keys])


async def leaves_of(server: ServerUnderTest, at_least: int = 0) -> list[Leaf]:
    """All leaves of a checkpoint of that many at least, verified."""
    reader = await reader_of(server)
    while (checkpoint := (await reader.checkpoint())[0]).size < at_least:
        continue  # each look is a call that waits for its response
    parts = [part async for part in reader.read(Frontier(), checkpoint)]
    return [Leaf.parse(one) for part in parts for one in part.entries]


async def test_everything_that_is_issued_is_a_leaf(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    [chain] = await agent.client.sign_x509([(made.id, new_csr())])
    assert not isinstance(chain, MeshtlsError)
    await agent.client.sign_jwt(made.id, ["db"])
    minted = await server.admin.mint_x509(WEB, new_csr())
    await server.admin.mint_jwt(WEB, ["db"])
    records = [one async for one in server.admin.issuances()]
    leaves = await leaves_of(server, 2 + len(records))

    def of(kind: LeafKind) -> list[Leaf]:
        return [one for one in leaves if one.kind is kind]

    bundle = await server.admin.bundle()
    assert [one.serial for one in of(LeafKind.JWT_AUTHORITY)] == list(bundle.jwt_authorities)
    [intermediate] = of(LeafKind.X509_INTERMEDIATE)
    assert intermediate.serial == format_serial(minted[1])
    issued = {one.serial: one for one in leaves if one.kind in (LeafKind.X509_SVID, LeafKind.JWT_SVID)}
    assert set(issued) == {one.serial for one in records if one.kind != "ca"}
    assert len(leaves) == len(records) + 2
    mine = issued[format_serial(chain[0])]
    assert (mine.agent_id, mine.entry_id, mine.issuer) == (str(agent.spiffe_id), made.id, intermediate.digest)
    assert issued[format_serial(minted[0])].agent_id == ""


async def test_each_svid_is_proven_by_its_serial_and_no_token_can_be_read_from_the_log(server: ServerUnderTest) -> None:
    chain = await server.admin.mint_x509(WEB, new_csr())
    token = await server.admin.mint_jwt(WEB, ["db"])
    reader = await reader_of(server)
    proof = await reader.prove(await reader.index_of(format_serial(chain[0])), patience=30)
    assert Leaf.parse(proof.extra).spiffe_id == str(WEB)
    assert all(part not in bytes(leaf).decode() for leaf in await leaves_of(server) for part in token.split("."))


async def test_authorities_from_before_the_log_are_logged_at_the_next_start(tmp_path: Path, store_url: URL) -> None:
    config = config_for(tmp_path, store_url)
    async with started(config):
        pass
    database = Database(store_url)
    async with database.write() as tx:
        await tx.execute(text("UPDATE authorities SET log_index = NULL"))
    await database.close()
    async with started(config) as server:
        kinds = [leaf.kind for leaf in await leaves_of(server, 7)]
    assert kinds.count(LeafKind.X509_AUTHORITY) == kinds.count(LeafKind.JWT_AUTHORITY) == 2


@pytest.mark.parametrize("answer", [b"9" * 5000, b"9" * 19, b"07", b"-1", b"\xff", b""])
async def test_witness_that_names_no_size_is_asked_again_and_does_not_stop_the_server(
    tmp_path: Path, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Request] = []
    twice = asyncio.Event()

    async def conflict(request: Request) -> Answer:
        asked.append(request)
        if len(asked) > 1:
            twice.set()
        return Answer(409, answer)

    key = str(NoteKey.of("witness.test", Ed25519PrivateKey.generate(), KeyType.COSIGNATURE))
    async with serve_http("witness", "127.0.0.1", 0, conflict, longest_body=1 << 16) as port:
        witness = WitnessConfig(f"http://127.0.0.1:{port}", key)
        async with started(replace(config_for(tmp_path), log_witnesses=(witness,))) as server, asyncio.timeout(60):
            await twice.wait()
            assert (await server.admin.health()).ready
    assert all(one.body.startswith(b"old 0\n") for one in asked)
    told = f"witness {witness.url} has not cosigned the transparency log: it answered 409: "
    assert [one for one in caplog.messages if one.startswith(told)]


async def test_a_witness_that_names_a_size_beyond_the_log_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Request] = []

    async def conflict(request: Request) -> Answer:
        asked.append(request)
        return Answer(409, b"999999999999\n")

    key = str(NoteKey.of("witness.test", Ed25519PrivateKey.generate(), KeyType.COSIGNATURE))
    async with serve_http("witness", "127.0.0.1", 0, conflict, longest_body=1 << 16) as port:
        witness = WitnessConfig(f"http://127.0.0.1:{port}", key)
        async with started(replace(config_for(tmp_path), log_witnesses=(witness,))):
            await until(lambda: len(asked) > 2)
    assert all(one.body.startswith(b"old 0\n") for one in asked)
    assert len([one for one in caplog.messages if one.startswith(f"witness {witness.url} has not cosigned")]) == 1


async def test_a_witness_that_does_not_answer_delays_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def hang(*request: object) -> None:
        asked.set()
        await ended.wait()
        raise HttpFailureError("too late")

    monkeypatch.setattr(log_publishing, "http_exchange", hang)
    monkeypatch.setattr(log_publishing, "_WITNESS_SECONDS", 3600.0)
    key = str(NoteKey.of("witness.test", Ed25519PrivateKey.generate(), KeyType.COSIGNATURE))
    config = config_for(tmp_path, log_witnesses=(WitnessConfig("http://127.0.0.1:1", key),))
    async with started(config) as server, asyncio.timeout(60):
        await asked.wait()
        before = (await (await reader_of(server)).checkpoint())[0].size
        await server.admin.mint_x509(WEB, new_csr())
        assert len(await leaves_of(server, before + 1)) > before
        ended.set()


async def test_a_checkpoint_that_can_not_be_stored_is_signed_once_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_for(tmp_path)
    async with started(config) as server, asyncio.timeout(60):
        path = LogGuard(config.data_dir).path
        aside = path.rename(path.with_name("aside"))
        path.mkdir()  # as a full disk does, it has the new checkpoint fail
        await server.admin.mint_x509(WEB, new_csr())
        await until(lambda: "the transparency log can't be signed now, retrying: " in caplog.text)
        before = (await (await reader_of(server)).checkpoint())[0].size
        path.rmdir()
        aside.rename(path)
        assert len(await leaves_of(server, before + 1)) > before
        await until(lambda: "the transparency log is signed again after " in caplog.text)
    told = [one for one in caplog.messages if one.startswith("the transparency log ")]
    assert told[0].startswith("the transparency log can't be signed now, retrying: ")
    assert told[1].startswith("the transparency log is signed again after ")
    assert len(told) == 2


@pytest.mark.parametrize("answer", [b"9" * 5000, b"9" * 19, b"07", b"-1", b"\xff", b""])
async def test_lookup_that_has_no_index_is_refused(answer: bytes) -> None:
    class Answered:
        def __init__(self, content: bytes) -> None:
            self._content = content

        async def get(self, path: str) -> bytes:
            return self._content

    assert await LogReader(Answered(b"7\n"), []).index_of("ab") == 7
    with pytest.raises(LogProofError, match="^lookup: wanted the index of a leaf, got another answer$"):
        await LogReader(Answered(answer), []).index_of("ab")


async def test_concurrent_calls_share_a_transaction_and_one_that_fails_fails_alone(server: ServerUnderTest) -> None:
    same = await asyncio.gather(*(server.admin.mint_x509(WEB, new_csr()) for _ in range(60)))
    assert len({format_serial(chain[0]) for chain in same}) == 60
    leaves = await leaves_of(server, 60 + 4)
    assert {format_serial(chain[0]) for chain in same} <= {leaf.serial for leaf in leaves}
    trail = [line async for line in server.admin.audit()]
    assert [line.number for line in trail] == list(range(1, len(trail) + 1))


async def new_log(database: Database, directory: Path) -> TransparencyLog:
    log = TransparencyLog(database, LogGuard(directory), Ed25519PrivateKey.generate(), "server-1")
    await log.open(TD)
    return log


async def append(database: Database, log: TransparencyLog, *entries: bytes) -> int:
    async with database.write() as tx:
        return await log.append(tx, entries)


async def test_transaction_that_is_rolled_back_leaves_no_leaf(database: Database, tmp_path: Path) -> None:
    log = await new_log(database, tmp_path)
    assert await append(database, log, b"one") == 0
    with pytest.raises(StoreError, match="the disk is gone"):
        await append_and_fail(database, log, b"two", b"three")
    assert await append(database, log, b"four") == 1
    assert (await log.publish()).root == Frontier().append(map(leaf_hash, (b"one", b"four")))[0].root


class SlowGuard(LogGuard):
    """Its disk takes a checkpoint as soon as ``goes_on`` is set."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def store(self, note: str) -> None:
        self.begun.set()
        assert self.goes_on.wait(60)
        super().store(note)


async def test_entry_that_is_appended_during_a_publication_is_signed_by_the_next(
    database: Database, tmp_path: Path
) -> None:
    guard = SlowGuard(tmp_path)
    guard.goes_on.set()
    log = TransparencyLog(database, guard, Ed25519PrivateKey.generate(), "server-1")
    await log.open(TD)
    await append(database, log, b"one")
    guard.begun.clear()
    guard.goes_on.clear()
    async with asyncio.TaskGroup() as publishing:
        first = publishing.create_task(log.publish())
        assert await asyncio.to_thread(guard.begun.wait, 60)
        await append(database, log, b"two")
        guard.goes_on.set()
    assert first.result().size == 1
    assert log.has_grown
    assert (await log.publish()).size == 2
    assert log.has_grown == database.shared


async def append_and_fail(database: Database, log: TransparencyLog, *entries: bytes) -> None:
    async with database.write() as tx:
        await log.append(tx, entries)
        raise OSError("the disk is gone")


async def test_two_servers_on_one_database_never_fork_the_log(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres_url(postgres.new_database())
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with started(config_for(tmp_path / "one", url)) as one, started(config_for(tmp_path / "two", url)) as two:
        servers = (one, two)
        before = [(await (await reader_of(server)).checkpoint())[0] for server in servers]
        work: list[Awaitable[object]] = [
            server.admin.mint_x509(WEB, new_csr()) for server in servers for _ in range(80)
        ]
        work += [
            server.admin.create_entries([entry(f"/e{n}.{at}", WEB)])
            for n in range(20)
            for at, server in enumerate(servers)
        ]
        await asyncio.gather(*work)
        leaves = await leaves_of(one, 160 + 8)
        assert await leaves_of(two, len(leaves)) == leaves
        assert len({leaf.serial for leaf in leaves}) == len(leaves) == 160 + 8
        assert {leaf.server_id for leaf in leaves} == {server.running.server_id for server in servers}
        for old in before:
            # `read` fails unless the later tree continues the earlier one.
            reader = await reader_of(two)
            new, _ = await reader.checkpoint()
            tree = await reader.tree_at(old.size, new.size)
            assert tree.root == old.root
            assert [part async for part in reader.read(tree, new)]
    first, second = (LogGuard(tmp_path / name / "server").load() for name in ("one", "two"))
    assert first is not None
    assert second is not None
    assert first.origin == second.origin


async def issue(config: ServerConfig, count: int) -> Checkpoint:
    """Start a server, mint that many SVIDs, and return its last checkpoint."""
    async with started(config) as server:
        for _ in range(count):
            await server.admin.mint_x509(WEB, new_csr())
    last = LogGuard(config.data_dir).load()
    assert last is not None
    return last


def refusal(config: ServerConfig, last: Checkpoint, found: str) -> str:
    guard = LogGuard(config.data_dir).path
    return (
        f"transparency log: this server has signed {last} ({guard}), which the log"
        f" in the data store {Database(config.datastore).where} does not continue: {found}. The data store was restored"
        " from a backup, or is another one. Nothing is issued, as its log would be a fork. Restore the newest state of"
        " the data store. If it is lost, run `meshtls log abandon --history-is-lost` with this server's file: that ends"
        " this log for all who watch it, and begins another"
    )


async def test_restored_data_store_is_refused_and_the_newest_one_accepted(tmp_path: Path) -> None:
    store, old, new = (tmp_path / name for name in ("store", "old", "new"))
    store.mkdir()
    config = config_for(tmp_path, sqlite_url(store / "store.sqlite3"))
    await issue(config, 2)
    shutil.copytree(store, old)
    last = await issue(config, 1)
    store.rename(new)
    shutil.copytree(old, store)
    with pytest.raises(ConfigError) as refused:
        await issue(config, 0)
    shrunk = f"it has 6 leaves: the tree has 6 leaves, and had {last.size} before: a log never shrinks"
    assert str(refused.value) == refusal(config, last, shrunk)
    shutil.rmtree(store)
    new.rename(store)
    assert (await issue(config, 1)).size == last.size + 2  # one of them the server's own SVID


@pytest.mark.parametrize("cancelled", [False, True], ids=["its body ends", "a signal cancels it"])
async def test_server_that_is_stopped_signs_what_it_issued_last(cancelled: bool, tmp_path: Path) -> None:
    """Within a second of its issuance: an older data store that is put back is refused then, too."""
    config = config_for(tmp_path)

    async def serve() -> None:
        async with opened_core(config, SystemClock()) as (core, _):
            issued = core.signing.x509(WEB, new_csr(), timedelta(hours=1))
            await core.ledger.commit(core.trail.record(None, "mint X509-SVID", WEB), [issued])
            assert core.log.has_grown
            if cancelled:
                raise asyncio.CancelledError

    with contextlib.suppress(asyncio.CancelledError):
        await serve()
    async with opened_database(config) as database, database.read() as tx:
        state = await transparency.read_state(tx)
    signed = LogGuard(config.data_dir).load()
    assert signed is not None
    assert (signed.size, signed.root) == (state.frontier.size, state.frontier.root)


async def test_restored_data_store_that_has_grown_again_is_refused(tmp_path: Path) -> None:
    """A second server, or a tool, may have appended to the restored store: its size alone shows nothing."""
    store, old = tmp_path / "store", tmp_path / "old"
    store.mkdir()
    config = config_for(tmp_path, sqlite_url(store / "store.sqlite3"))
    await issue(config, 2)
    shutil.copytree(store, old)
    last = await issue(config, 1)
    shutil.rmtree(store)
    old.rename(store)
    database = Database(config.datastore)
    async with database.write() as tx:
        before = (await transparency.read_state(tx)).frontier
        grown, nodes = before.append(map(leaf_hash, [b"other"] * 9))
        await run_steps(tx, transparency.append_steps(before, [b"other"] * 9, grown, nodes))
    await database.close()
    with pytest.raises(ConfigError) as refused:
        await issue(config, 0)
    fork = f"it has 15 leaves: from {last.size} to 15 leaves: not consistent; the log was rewritten or has forked"
    assert str(refused.value) == refusal(config, last, fork)


async def test_server_whose_data_store_is_replaced_while_it_runs_stops_issuing(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres_url(postgres.new_database())
    async with started(config_for(tmp_path, url, metrics=Address("127.0.0.1", 0))) as server:
        await server.admin.mint_x509(WEB, new_csr())
        await leaves_of(server, 5)
        assert value(await scraped(server.running.metrics), "meshtls_server_log_refused") == 0
        database = Database(url)
        async with database.write() as tx:
            await tx.execute(text("DELETE FROM log_leaves WHERE number > 1"))
            left = (await tx.execute(text("SELECT entry FROM log_leaves ORDER BY number"))).scalars()
            tree = Frontier().append(map(leaf_hash, left))
            await tx.execute(
                text("UPDATE log_state SET size = 2, peaks = :peaks, signed_size = 0, note = ''"),
                {"peaks": tree[0].to_bytes()},
            )
        await database.close()
        with pytest.raises(ConfigError, match="^transparency log: this server has signed .* 5 leaves"):
            await server.admin.mint_x509(WEB, new_csr())
        with pytest.raises(ConfigError, match="Nothing is issued"):
            await server.admin.mint_x509(WEB, new_csr())
        await scraped_until(server.running.metrics, lambda found: value(found, "meshtls_server_log_refused") == 1)


async def test_missing_guard_is_refused_and_a_new_server_may_begin(tmp_path: Path, store_url: URL) -> None:
    config = config_for(tmp_path, store_url)
    await issue(config, 1)
    guard = LogGuard(config.data_dir).path
    kept = guard.read_bytes()
    guard.unlink()
    with pytest.raises(ConfigError, match="missing, though this server has signed the transparency log example"):
        await issue(config, 0)
    guard.write_bytes(kept)
    guard.chmod(0o600)
    await issue(config, 1)
    (tmp_path / "other").mkdir()
    if store_url.get_backend_name() != "sqlite":
        await issue(config_for(tmp_path / "other", store_url), 1)


async def test_log_whose_history_is_lost_is_abandoned_for_another_that_names_it(tmp_path: Path) -> None:
    store, old = tmp_path / "store", tmp_path / "old"
    store.mkdir()
    config = config_for(tmp_path, sqlite_url(store / "store.sqlite3"))
    await issue(config, 1)
    shutil.copytree(store, old)
    last = await issue(config, 2)
    shutil.rmtree(store)
    old.rename(store)
    with pytest.raises(ConfigError):
        await issue(config, 0)
    done = await abandon_log(config)
    assert done.old == last
    assert done.new != last.origin
    assert done.aside is not None
    assert done.aside.exists()
    async with started(config) as server:
        await server.admin.mint_x509(WEB, new_csr())
        leaves = await leaves_of(server, 8)
        acts = [line.record async for line in server.admin.audit()]
    [named] = [leaf for leaf in leaves if leaf.kind is LeafKind.PREDECESSOR]
    assert (named.spiffe_id, named.serial, named.digest) == (last.origin, str(last.size), last.root.hex())
    assert any(b'"abandon transparency log"' in act for act in acts)


async def test_abandoning_waits_for_the_server_to_end(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    async with started(config):
        with pytest.raises(ConfigError, match="another process uses it"):
            await abandon_log(config)


async def test_unavailable_store_stops_neither_the_log_nor_the_server(tmp_path: Path, own_postgres: Postgres) -> None:
    async with started(config_for(tmp_path, postgres_url(own_postgres.new_database()))) as server:
        await server.admin.mint_x509(WEB, new_csr())
        own_postgres.kill()
        with pytest.raises(LocalIdentityError):
            await server.admin.mint_x509(WEB, new_csr())
        own_postgres.start()
        await server.admin.mint_x509(WEB, new_csr())
        assert len(await leaves_of(server, 6)) >= 6


@pytest.mark.parametrize("name", ["a" * 70, "a..b"])
async def test_a_witness_whose_name_no_resolver_takes_is_a_warning_and_the_server_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    key = NoteKey.of("witness.test", Ed25519PrivateKey.generate(), KeyType.COSIGNATURE)
    url = f"http://{name}.example"
    failure = f"witness {url} has not cosigned the transparency log: {url}/add-checkpoint: {name}.example:80: "
    with caplog.at_level(logging.WARNING, "meshtls.server"):
        async with started(config_for(tmp_path, log_witnesses=(WitnessConfig(url, str(key)),))) as server:
            await until(lambda: any(line.startswith(failure) for line in caplog.messages))
            size = (await (await reader_of(server)).checkpoint())[0].size
            chain = await server.admin.mint_x509(WEB, new_csr())
            assert format_serial(chain[0]) in {leaf.serial for leaf in await leaves_of(server, size + 1)}


async def test_a_refused_certificate_of_a_log_is_told_of_in_the_words_of_the_verification(tmp_path: Path) -> None:
    issued = certs.leaf(certs.ca(), ip=("127.0.0.1",))
    pem = tmp_path / "served.pem"
    pem.write_bytes(
        issued.certificate.public_bytes(Encoding.PEM)
        + issued.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(HttpFailureError) as refused:
            await http_exchange("GET", f"https://{address}/checkpoint")
    why = "its certificate is refused: unable to get local issuer certificate"
    assert str(refused.value) == f"https://{address}/checkpoint: {address}: {why}"
