"""The admin socket, the ports and the data directory: which callers are admitted, and the errors of a failed start."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import URL

from meshtls.bundle import BundleSet
from meshtls.ca.profile import CaSubject
from meshtls.errors import AccessError, ConfigError, LocalIdentityError, MeshtlsError, StoreError
from meshtls.rpc.sockets import unix_listener
from meshtls.server.access import Authenticator, ListenerKind, Role
from meshtls.server.hub import Hub
from meshtls.server.settings import KeyPlace, ServerConfig, X509PopConfig
from meshtls.server.startup import datastore_version
from meshtls.server.store.address import sqlite_url
from meshtls.server.store.database import Database
from meshtls.server.store.migrate import SchemaVersion
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel, mutual_channel
from meshtls.svid.context import ConstantSource, X509Context
from tests.support.clock import ManualClock
from tests.support.server import TD, config_for, started


@pytest.fixture
async def authenticator(tmp_path: Path) -> AsyncIterator[Authenticator]:
    clock = ManualClock()
    database = Database(sqlite_url(tmp_path / "store.sqlite3"))
    yield Authenticator(Hub(TD, database, clock, lambda bundle: None), database, clock)
    await database.close()


async def test_the_admin_socket_is_its_owners_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    async with started(config) as server:
        status = server.running.socket_path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700
    assert not config.socket_path.exists()


@pytest.mark.parametrize("uid", [None, 12345])
async def test_another_uid_is_refused_on_the_admin_socket(uid: int | None, authenticator: Authenticator) -> None:
    with pytest.raises(AccessError, match=f"^uid {uid}: only root and the user that runs the server"):
        await authenticator.authenticate(ListenerKind.ADMIN_SOCKET, uid=uid)
    for allowed in (0, os.geteuid()):
        assert (await authenticator.authenticate(ListenerKind.ADMIN_SOCKET, uid=allowed)).role is Role.ADMIN


async def test_a_client_without_a_certificate_is_refused(authenticator: Authenticator) -> None:
    with pytest.raises(AccessError, match="^wanted a verified client certificate, got none$"):
        await authenticator.authenticate(ListenerKind.MUTUAL_TLS)
    assert (await authenticator.authenticate(ListenerKind.ATTESTATION)).role is Role.ANONYMOUS


async def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    config.data_dir.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(config.socket_path))
    async with started(config) as server:
        with pytest.raises(ConfigError) as refused, unix_listener(server.running.socket_path, 0o600):
            pytest.fail("it was taken away from a living server")
        assert str(refused.value) == (
            f"{config.socket_path}: another process listens there; stop it or give another path"
        )
        assert (await server.admin.health()).ready


async def refusal(config: ServerConfig) -> MeshtlsError:
    with pytest.raises(MeshtlsError) as refused:
        async with started(config):
            pytest.fail("it started")
    return refused.value


async def test_a_file_where_the_socket_should_be_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine")
    error = await refusal(config_for(tmp_path, socket_path=path))
    assert str(error) == f"{path}: wanted a free path or a dead socket, found another file; move it away"
    assert path.read_text() == "mine"


async def test_a_channel_of_mutual_tls_has_closed_its_socket_when_it_is_left(tmp_path: Path) -> None:
    """A command's loop ends right after; grpclib's own channel would leave the socket to the garbage collector."""
    async with started(config_for(tmp_path)) as server:
        agent = await server.new_agent()
        source = ConstantSource(X509Context(1, (agent.svid,), BundleSet([agent.bundle])))
        async with mutual_channel(*server.running.address, source, TD) as channel:
            with pytest.raises(AccessError):
                await AdminClient(channel).health()
            assert dialled(server.running.address) == 1
        assert dialled(server.running.address) == 0


def dialled(address: tuple[str, int]) -> int:
    """How many sockets of this process are connected to that address."""
    found = 0
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
            found += copy.family is socket.AF_INET and copy.getpeername() == address
    return found


async def test_a_second_server_on_one_data_directory_is_refused(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    async with started(config) as server:
        error = await refusal(replace(config, socket_path=tmp_path / "other.sock"))
        assert str(error) == (
            f"data directory {config.data_dir}: another process uses it; stop that process or use another directory"
        )
        assert (await server.admin.health()).ready
    async with started(config):
        pass


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = await refusal(config_for(tmp_path, bind_port=port))
    assert str(error) == f"bind_port: wanted to listen on 127.0.0.1:{port}: Address already in use, by this process"


async def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    error = await refusal(config_for(tmp_path, data_dir=Path("/proc/meshtls")))
    assert isinstance(error, ConfigError)
    assert str(error).startswith("data directory /proc/meshtls: wanted a directory to use: ")


async def test_a_data_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    config.data_dir.mkdir(mode=0o755)
    error = await refusal(config)
    assert (
        str(error)
        == f"{config.data_dir}: mode 0755 gives other users access to a CA key; run chmod 700 {config.data_dir}"
    )


async def test_a_data_store_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    path.write_text("this is a diary, and not a short one" * 100)
    error = await refusal(config_for(tmp_path, sqlite_url(path)))
    assert isinstance(error, StoreError)
    assert str(error) == f"data store SQLite file {path}: file is not a database; restore the file from a backup"


async def test_checking_the_data_store_creates_and_changes_nothing(tmp_path: Path, store_url: URL) -> None:
    config = config_for(tmp_path, store_url)
    assert await datastore_version(config) == SchemaVersion(None, "0007")
    assert not config.data_dir.exists()
    async with started(config):
        assert (await datastore_version(config)).current
    missing = config_for(tmp_path, sqlite_url(tmp_path / "none.sqlite3"))
    assert not (await datastore_version(missing)).current
    assert not (tmp_path / "none.sqlite3").exists()


async def test_checking_an_sqlite_file_changes_no_byte_of_it(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as connection:  # in SQLite's own journal mode
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0007')")
        connection.commit()
    before = file.read_bytes()
    assert (await datastore_version(config_for(tmp_path, sqlite_url(file)))).current
    assert file.read_bytes() == before


async def test_a_read_only_data_store_says_so(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    async with started(config):
        pass
    read_only = config.datastore.set(database=f"file:{config.datastore.database}", query={"mode": "ro", "uri": "true"})
    error = await refusal(replace(config, datastore=read_only))
    assert "attempt to write a readonly database; make the file and its directory writable for this user" in str(error)
    async with started(config):
        pass


async def test_a_node_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nodes.pem"
    path.write_text("no certificates")
    error = await refusal(config_for(tmp_path, x509pop=X509PopConfig((path,))))
    assert str(error).startswith(f"{path}: wanted CA certificates in PEM for x509pop: ")


async def test_a_client_without_a_server_says_so(tmp_path: Path) -> None:
    channel = local_channel(tmp_path / "none.sock")
    with pytest.raises(LocalIdentityError, match="^the server can't be reached: .*No such file"):
        await AdminClient(channel).health()
    channel.close()


async def test_keys_on_disk_are_private_and_the_same_after_a_restart(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    async with started(config) as server:
        first = await server.admin.bundle()
    for path in config.keys_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with started(config) as server:
        assert await server.admin.bundle() == first


async def test_keys_in_memory_touch_no_disk_and_leave_the_bundle_after_their_last_svid(tmp_path: Path) -> None:
    config = config_for(tmp_path, key_place=KeyPlace.MEMORY)
    async with started(config) as server:
        first = await server.admin.bundle()
        agent = await server.new_agent()
    assert not config.keys_dir.exists()
    async with started(config) as server:
        second = await server.admin.bundle()
        assert len(second.x509_authorities) == 2
        assert len(second.jwt_authorities) == 1, "the first key signed no token, so nothing needs it"
        assert first.x509_authorities[0] in second.x509_authorities
        assert await server.node_client(agent.svid, second).bundle() == second


async def test_the_jwt_key_file_is_checked(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    async with started(config):
        pass
    path = config.keys_dir / "jwt.pem"
    path.write_bytes(b"garbage")
    error = await refusal(config)
    assert str(error).startswith(f"{path}: ")
    assert str(error).endswith("; restore the file from a backup")


async def test_the_ca_has_the_configured_subject(tmp_path: Path) -> None:
    subject = CaSubject(("US",), ("SPIFFE",), "SPIRE Server CA")
    async with started(config_for(tmp_path, ca_subject=subject)) as server:
        [root] = (await server.admin.bundle()).x509_authorities
    assert "CN=SPIRE Server CA,O=SPIFFE,C=US" in root.subject.rfc4514_string()
