"""Hashing a caller's program costs that caller only: neither its size nor its file system delays another."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshtls.agent.attest.attestor import Attestor, Caller
from meshtls.agent.attest.digests import Digests, UnhashedError
from meshtls.rpc.peer_credentials import Credentials
from meshtls.workload.x509_source import X509Source
from tests.support.agent import SELF, agent_at, entry
from tests.support.waiting import until

#: A size that any file system here allows for a sparse file, and that would take minutes to read.
ENDLESS = 300 * 2**30


@pytest.fixture
def sparse(directory: Path) -> Path:
    """A runnable program with a size of 300 GB, sparse, so that it takes one block."""
    program = directory / "sparse"
    shutil.copy("/bin/sleep", program)
    os.truncate(program, ENDLESS)
    return program


@contextmanager
def opened(program: Path) -> Iterator[int]:
    descriptor = os.open(program, os.O_PATH | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def running(program: Path | str) -> Iterator[Caller]:
    process = subprocess.Popen([program, "60"])
    caller = Caller(Credentials(process.pid, os.geteuid(), os.getegid()))
    try:
        yield caller
    finally:
        caller.close()
        process.kill()
        process.wait()


def descriptors_of(file: Path) -> int:
    """The number of this process's descriptors of this file."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += descriptor.readlink() == file
    return count


def digests_of(found: object) -> set[str]:
    assert isinstance(found, frozenset)
    return {str(one) for one in found if one.is_digest}


def sha256(program: Path | str) -> str:
    return hashlib.sha256(Path(program).read_bytes()).hexdigest()


async def test_a_program_above_the_limit_is_known_by_all_but_its_digest(
    sparse: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(sparse) as caller:
        attestor = Attestor()
        found = [await attestor.attest(caller) for _ in range(2)]
    assert digests_of(found[0]) == set()
    assert f"unix:path:{sparse}" in set(map(str, found[0]))
    why = f"omitting unix:sha256: it has {ENDLESS} bytes, and workload_size_limit is {2**29}"
    assert caplog.messages == [f"caller with uid {os.geteuid()}: {why}"]


@pytest.mark.parametrize(
    ("limit", "hashed"),
    [(0, True), (10_000, True), (9_999, False), (-1, False)],
    ids=["none", "just", "above", "never"],
)
async def test_the_limit_is_in_bytes(directory: Path, limit: int, hashed: bool) -> None:
    program = directory / "program"
    program.write_bytes(b"x" * 10_000)
    with opened(program) as descriptor:
        if hashed:
            assert await Digests(limit).digest(descriptor, "party") == sha256(program)
        else:
            with pytest.raises(UnhashedError, match="workload_size_limit"):
                await Digests(limit).digest(descriptor, "party")


async def test_a_digest_that_no_entry_needs_is_not_computed(sparse: Path) -> None:
    attestor = Attestor(size_limit=0)
    with running(sparse) as caller:
        found = await attestor.attest(caller, lambda selectors: False)
    assert f"unix:path:{sparse}" in set(map(str, found))
    assert digests_of(found) == set()


async def test_a_short_program_of_another_party_passes_one_without_end(sparse: Path) -> None:
    digests = Digests(limit=0)
    with opened(sparse) as long, opened(Path("/bin/sleep")) as short:
        endless = asyncio.create_task(digests.digest(long, "mallory"))
        await until(lambda: "1 of 4 threads" in repr(digests))
        assert await digests.digest(short, "alice") == sha256("/bin/sleep")
        assert not endless.done()
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless


async def test_a_party_has_one_thread_and_its_own_programs_take_turns(directory: Path, sparse: Path) -> None:
    digests = Digests(limit=0)
    with opened(sparse) as long, opened(Path("/bin/sleep")) as short:
        endless = asyncio.create_task(digests.digest(long, "mallory"))
        await until(lambda: "1 of 4 threads" in repr(digests))
        assert await digests.digest(short, "mallory") == sha256("/bin/sleep")
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless


async def test_a_caller_that_has_gone_costs_no_read_and_no_descriptor(sparse: Path) -> None:
    digests = Digests(limit=0)
    with opened(sparse) as long:
        assert descriptors_of(sparse) == 1
        waiting = [asyncio.create_task(digests.digest(long, party)) for party in range(8)]
        await until(lambda: "4 of 4 threads, 4 waiting" in repr(digests))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await until(lambda: "0 of 4 threads, 0 waiting" in repr(digests))
        assert descriptors_of(sparse) == 1


async def test_a_digest_is_cached_until_the_file_changes(directory: Path) -> None:
    program = directory / "program"
    program.write_bytes(b"one")
    digests = Digests()
    with opened(Path("/bin/sleep")) as settled, opened(program) as fresh:
        for _ in range(2):
            await digests.digest(settled, "party")
        assert "1 known" in repr(digests)
        assert await digests.digest(fresh, "party") == hashlib.sha256(b"one").hexdigest()
        # Its time stamp may not tell a change so short after the last one: it is read again.
        assert "1 known" in repr(digests)
        program.write_bytes(b"two")
        assert await digests.digest(fresh, "party") == hashlib.sha256(b"two").hexdigest()


async def test_a_party_reads_a_file_once_for_all_who_wait_for_it(tmp_path: Path) -> None:
    digests = Digests()
    with opened(Path("/bin/sleep")) as program:
        found = [asyncio.create_task(digests.digest(program, "party")) for _ in range(20)]
        await until(lambda: any(task.done() for task in found))
        assert "0 waiting" in repr(digests)
        assert {await task for task in found} == {sha256("/bin/sleep")}


async def test_an_entry_that_asks_for_a_digest_reaches_a_workload_that_was_not_hashed_before(directory: Path) -> None:
    ours = sha256(os.readlink("/proc/self/exe"))
    async with (
        agent_at(directory / "agent.sock", entry("/plain")) as mesh,
        X509Source(mesh.agent.address, clock=mesh.clock) as source,
    ):
        generation = source.snapshot().generation
        mesh.upstream.put_entry(entry("/another", f"unix:sha256:{'0' * 64}", SELF))
        mesh.upstream.put_entry(entry("/hashed", f"unix:sha256:{ours}", SELF))
        held = set()
        while "spiffe://example.org/hashed" not in held:
            async with asyncio.timeout(60):
                context = await source.changed(generation)
            generation, held = context.generation, {str(svid.spiffe_id) for svid in context.svids}
        assert held == {"spiffe://example.org/plain", "spiffe://example.org/hashed"}
