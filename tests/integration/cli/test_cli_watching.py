"""``meshtls watch`` while something goes wrong: a program that hangs, files that can't be written for a while."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from grpclib import Status

from meshtls.ca.authority import Authority
from meshtls.cli.output import Output
from meshtls.cli.telling import Teller
from meshtls.cli.watch import Watch
from meshtls.errors import ConfigError
from meshtls.svid.context import X509Context
from meshtls.workload.address import parse_address
from meshtls.workload.background import in_background
from tests.support.agent import eventually
from tests.support.authority import context_for, make_authority
from tests.support.waiting import SECONDS
from tests.support.workload_api import WorkloadApi, workload_api


@pytest.fixture
def authority() -> Authority:
    return make_authority("example.org")


class Hanging:
    """A program that never ends."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def tell(self, environment: Mapping[str, str]) -> bool:
        self.told.append(environment["MESHTLS_SVID_SERIAL"])
        await asyncio.Event().wait()
        return True


def watch(api: WorkloadApi, directory: Path, *tellers: Teller, pauses: tuple[float, float] = (0.01, 0.01)) -> Watch:
    return Watch(parse_address(api.address), directory, tellers, Output(as_json=True), pauses)


@asynccontextmanager
async def watching(it: Watch) -> AsyncIterator[None]:
    async with asyncio.timeout(SECONDS), in_background(it.follow(), "watch"):
        yield


async def written(directory: Path, context: X509Context) -> None:
    """Wait until this context's certificate is there."""

    async def there() -> bool:
        try:
            content = (directory / "svid.pem").read_bytes()
        except FileNotFoundError:
            return False
        return x509.load_pem_x509_certificate(content) == context.svid.leaf

    await eventually(there)


def serials(out: str) -> Sequence[str]:
    return [event["serial"] for event in map(json.loads, out.splitlines()) if event["event"] == "svid"]


async def test_files_are_kept_up_to_date_while_a_program_that_was_told_hangs(
    authority: Authority, tmp_path: Path
) -> None:
    first, second = (context_for(authority, "/web") for _ in range(2))
    program = Hanging()
    async with workload_api(tmp_path / "api.sock", first) as api, watching(watch(api, tmp_path / "svid", program)):
        await written(tmp_path / "svid", first)
        await eventually(lambda: bool(program.told))
        api.push(second)
        await written(tmp_path / "svid", second)

    assert program.told == [first.svid.serial]


async def test_temporary_write_failures_are_logged_and_the_files_written_later(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (context_for(authority, "/web") for _ in range(2))
    directory = tmp_path / "svid"
    async with workload_api(tmp_path / "api.sock", first) as api, watching(watch(api, directory)):
        await written(directory, first)
        shutil.rmtree(directory)
        directory.touch()  # nobody can make a directory there now
        api.push(second)
        await eventually(lambda: bool(caplog.messages))
        assert caplog.messages[0] == (
            f"{directory}: wanted to write SVIDs there: File exists; next try in 0.01 s, or at the next SVID"
        )
        directory.unlink()
        await written(directory, second)

    assert serials(capsys.readouterr().out) == [first.svid.serial, second.svid.serial]


async def test_the_next_svid_is_written_at_once_where_the_last_one_could_not_be(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = (context_for(authority, "/web") for _ in range(3))
    directory = tmp_path / "svid"
    async with (
        workload_api(tmp_path / "api.sock", first) as api,
        watching(watch(api, directory, pauses=(1000.0, 1000.0))),
    ):
        await written(directory, first)
        shutil.rmtree(directory)
        directory.touch()
        api.push(second)
        await eventually(lambda: bool(caplog.messages))
        directory.unlink()
        api.push(third)
        await written(directory, third)


@pytest.mark.parametrize(("parent", "ends"), [("file", True), ("directory", False)])
async def test_a_permanent_write_error_before_the_first_write_ends_the_watch(
    authority: Authority, tmp_path: Path, parent: str, ends: bool
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    context, directory = context_for(authority, "/web"), tmp_path / parent / "svid"
    async with workload_api(tmp_path / "api.sock", context) as api:
        if not ends:
            async with watching(watch(api, directory)):
                await written(directory, context)
            return
        with pytest.raises(ExceptionGroup) as raised:
            async with watching(watch(api, directory)):
                await asyncio.Event().wait()
    assert raised.group_contains(ConfigError, match="wanted to write SVIDs there: Not a directory")


async def test_the_files_stay_with_their_identity_when_the_default_changes(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    web, api_svid = (context_for(authority, path) for path in ("/web", "/api"))
    later = context_for(authority, "/web")
    directory = tmp_path / "svid"
    async with workload_api(tmp_path / "api.sock", web) as api, watching(watch(api, directory)):
        await written(directory, web)
        api.push(api_svid)
        await eventually(lambda: bool(caplog.messages))
        assert caplog.messages == [
            "wanted an SVID of spiffe://example.org/web, the Workload API gives this process spiffe://example.org/api;"
            " nothing is written until then"
        ]
        assert (directory / "svid.pem").read_bytes() == web.svid.chain_pem()
        api.push(later)
        await written(directory, later)

    assert serials(capsys.readouterr().out) == [web.svid.serial, later.svid.serial]


async def test_the_key_of_an_identity_that_was_withdrawn_does_not_stay_on_the_disk(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, context = tmp_path / "svid", context_for(authority, "/web")
    async with workload_api(tmp_path / "api.sock", context) as api, watching(watch(api, directory)):
        await written(directory, context)
        api.refuse(Status.PERMISSION_DENIED)
        await eventually(lambda: not (directory / "key.pem").exists())
        assert (directory / "svid.pem").exists()  # it says whose directory this is
        api.push(context)
        await eventually(lambda: (directory / "key.pem").exists())
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["svid", "withdrawn", "svid"]
    assert "PERMISSION_DENIED" in events[1]["reason"]


async def test_the_key_stays_where_the_workload_api_is_only_away(authority: Authority, tmp_path: Path) -> None:
    directory, context = tmp_path / "svid", context_for(authority, "/web")
    async with workload_api(tmp_path / "api.sock", context) as api, watching(watch(api, directory)):
        await written(directory, context)
        api.refuse(Status.UNAVAILABLE)
        await api.until_called("FetchX509SVID", 2)
        assert (directory / "key.pem").exists()
