"""The interim CA service and its client over a real Unix socket: who a caller is, the kernel says."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.agent.ca_client import SocketIssuer
from meshtls.agent.ca_service import serve_ca
from meshtls.agent.source import RotatingSource
from meshtls.bundle import BundleSet
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.leaf_rules import uri_names
from tests.support.authority import csr_for, make_authority
from tests.support.require import require

WEB = SpiffeId.parse("spiffe://example.org/web")
OURS = {os.getuid(): WEB}
KEY = ec.generate_private_key(ec.SECP256R1())
CSR = csr_for(KEY).public_bytes(Encoding.DER)


@pytest.fixture
def path() -> Iterator[Path]:
    # A socket's path may have 107 bytes, which pytest's own temporary directories can exceed.
    with TemporaryDirectory(prefix="meshtls-") as directory:
        yield Path(directory) / "ca.sock"


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


async def exchange(connection: socket.socket, sent: bytes) -> dict[str, str]:
    """Send these bytes and read the answer's one line."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    writer.write(sent)
    writer.write_eof()
    line = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert line.count(b"\n") == 1
    answer: dict[str, str] = json.loads(line)
    return answer


async def test_a_known_uid_gets_its_own_id_and_the_bundle(path: Path) -> None:
    authority = make_authority()
    async with serve_ca(authority, path, OURS):
        issued = await SocketIssuer(path).issue(CSR)
    assert uri_names(issued.chain[0]) == [str(WEB)]
    assert issued.chain[0].public_key() == KEY.public_key()
    assert issued.chain[1] == authority.intermediate.certificate
    assert issued.bundles == BundleSet([authority.bundle])


async def test_the_id_that_a_caller_writes_into_its_csr_is_ignored(path: Path) -> None:
    wish = csr_for(KEY, uri="spiffe://example.org/admin").public_bytes(Encoding.DER)
    async with serve_ca(make_authority(), path, OURS):
        issued = await SocketIssuer(path).issue(wish)
    assert uri_names(issued.chain[0]) == [str(WEB)]


async def test_an_unknown_uid_gets_nothing(path: Path) -> None:
    async with serve_ca(make_authority(), path, {os.getuid() + 1: WEB}):
        with pytest.raises(LocalIdentityError) as raised:
            await SocketIssuer(path).issue(CSR)
    assert str(raised.value) == (
        f"the CA at {path} refused: uid {os.getuid()} has no identity here;"
        " give it one in the CA service's list of uids"
    )


def connected_as(uid: int, path: Path) -> socket.socket:
    """A connection that the kernel says is of this user."""
    path.parent.chmod(0o755)
    connection = socket.socket(socket.AF_UNIX)
    os.seteuid(uid)
    try:
        connection.connect(str(path))
    finally:
        os.seteuid(0)
    return connection


async def test_each_uid_gets_its_own_id(path: Path) -> None:
    require("root", os.geteuid() == 0, "only root can connect as another user")
    identities = {0: WEB, 12345: SpiffeId.parse("spiffe://example.org/db")}
    request = json.dumps({"csr": csr_for(KEY, uri=str(WEB)).public_bytes(Encoding.PEM).decode()})
    async with serve_ca(make_authority(), path, identities):
        answer = await exchange(connected_as(12345, path), request.encode() + b"\n")
    assert uri_names(x509.load_pem_x509_certificate(answer["certificates"].encode())) == ["spiffe://example.org/db"]


async def test_ttl_and_federated_bundles_are_the_services(path: Path) -> None:
    partner = make_authority("partner.org").bundle
    authority = make_authority()
    async with serve_ca(authority, path, OURS, ttl=timedelta(minutes=5), federated=[partner]):
        issued = await SocketIssuer(path).issue(CSR)
    life = issued.chain[0].not_valid_after_utc - issued.chain[0].not_valid_before_utc
    assert life == timedelta(minutes=5, seconds=10)
    assert issued.bundles == BundleSet([partner, authority.bundle])


async def test_a_source_rotates_over_the_socket(path: Path) -> None:
    async with serve_ca(make_authority(), path, OURS), RotatingSource(SocketIssuer(path)) as source:
        assert (await source.rotate()).generation == 2
        assert source.snapshot().svid.spiffe_id == WEB


async def test_many_callers_at_once_all_get_one(path: Path) -> None:
    async with serve_ca(make_authority(), path, OURS):
        issued = await asyncio.gather(*(SocketIssuer(path).issue(CSR) for _ in range(200)))
    assert len({one.chain[0].serial_number for one in issued}) == 200


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\n", "wanted one line of JSON: Input data was truncated"),
        (b"{}\n", "wanted one line of JSON: Object missing required field `csr`"),
        (b"[]\n", "wanted one line of JSON: Expected `object`, got `array`"),
        (b'{"csr": 5}\n', "wanted one line of JSON: Expected `str`, got `int` - at `$.csr`"),
        (b'{"csr": "x"}\n', "CSR: wanted a PKCS#10 request in PEM or DER: "),
        (b"\xff\n", "wanted one line of JSON: JSON is malformed: "),
    ],
)
async def test_a_request_that_is_none_is_answered_with_what_is_wrong(path: Path, sent: bytes, error: str) -> None:
    async with serve_ca(make_authority(), path, OURS):
        assert (await exchange(connected(path), sent))["error"].startswith(error)
        assert uri_names((await SocketIssuer(path).issue(CSR)).chain[0]) == [str(WEB)]


async def test_a_request_without_end_is_cut_off(path: Path) -> None:
    async with serve_ca(make_authority(), path, OURS):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"a" * (3 * 2**20))
        line = await reader.readline()
        writer.transport.abort()
    assert json.loads(line) == {"error": "wanted a request of at most 1048576 bytes on one line"}


async def test_a_probe_that_only_connects_gets_no_answer_and_leaves_no_line_in_the_log(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_ca(make_authority(), path, OURS):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert caplog.messages == []


async def test_a_caller_that_says_nothing_is_cut_off(path: Path) -> None:
    async with serve_ca(make_authority(), path, OURS, timeout=0.05):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_the_service_stops_while_a_caller_is_connected(path: Path) -> None:
    async with serve_ca(make_authority(), path, OURS):
        reader, writer = await asyncio.open_unix_connection(path)
        await SocketIssuer(path).issue(CSR)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


def mode_of(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


async def test_the_socket_is_open_to_all_users_and_gone_afterwards(path: Path) -> None:
    async with serve_ca(make_authority(), path, OURS):
        assert mode_of(path) == 0o666
    assert mode_of(path) is None


async def test_a_dead_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serve_ca(make_authority(), path, OURS):
        await SocketIssuer(path).issue(CSR)


async def test_a_socket_that_someone_answers_on_is_left_alone(path: Path) -> None:
    async with serve_ca(make_authority(), path, OURS):
        with pytest.raises(ConfigError) as raised:
            await serve_ca(make_authority(), path, OURS).__aenter__()
        assert str(raised.value) == f"{path}: another process listens there; stop it or give another path"
        await SocketIssuer(path).issue(CSR)


@pytest.fixture
def precious(path: Path) -> Iterator[Path]:
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"


async def test_a_file_that_is_no_socket_is_left_alone(precious: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        await serve_ca(make_authority(), precious, OURS).__aenter__()
    assert str(raised.value) == f"{precious}: wanted a free path or a dead socket, found another file; move it away"


async def test_a_path_where_no_socket_can_be_is_a_clear_error(path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        await serve_ca(make_authority(), path / "ca.sock", OURS).__aenter__()
    assert str(raised.value) == f"{path}/ca.sock: could not make the socket: No such file or directory"


async def test_a_client_without_a_service_says_where_it_looked(path: Path) -> None:
    with pytest.raises(LocalIdentityError) as raised:
        await SocketIssuer(path).issue(CSR)
    assert str(raised.value) == (
        f"no CA answers at {path} (No such file or directory); start the CA there, or give the path of its socket"
    )


@asynccontextmanager
async def answering(path: Path, answer: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[None]:
    """A server that reads one line and then does as ``answer`` says."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        answer(writer)
        writer.close()

    async with await asyncio.start_unix_server(handle, path):
        yield


CUT = "the CA at {path} answered what can't be read: wanted "


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", CUT + "one line of JSON: Input data was truncated"),
        (b"nonsense\n", CUT + "one line of JSON: JSON is malformed: "),
        (b'{"certificates": "nonsense"}\n', CUT + "a chain of PEM certificates: "),
        (b"a" * (2**20 + 1), "the CA at {path} answered more than 1048576 bytes"),
    ],
)
async def test_an_answer_that_cant_be_read_is_no_identity(path: Path, answer: bytes, message: str) -> None:
    async with answering(path, lambda writer: writer.write(answer)):
        with pytest.raises(LocalIdentityError) as raised:
            await SocketIssuer(path).issue(CSR)
    assert str(raised.value).startswith(message.format(path=path))


async def test_a_service_that_does_not_answer_is_given_up(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(LocalIdentityError) as raised:
            await SocketIssuer(path, timeout=0.05).issue(CSR)
    assert str(raised.value) == f"the CA at {path} gave no answer in 0.05 s"
