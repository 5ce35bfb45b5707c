"""Attestation of real processes: our own, another user's, one that ended, one that changed."""

from __future__ import annotations

import asyncio
import grp
import hashlib
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshtls.agent.attest.attestor import Attestor, Caller
from meshtls.agent.attest.process import peer_still_runs
from meshtls.errors import AccessError
from meshtls.rpc.peer_credentials import Credentials
from tests.support.agent import agent_at, entry
from tests.support.require import require, succeeds

NOBODY = 65534
# A workload that changes to another user, as a daemon does, and then requests its SVID.
WORKLOAD = """
import asyncio, json, os, sys
import encodings.idna
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
async def main(address):
    async with WorkloadApiClient(address) as client:
        try:
            context = await client.fetch_x509_context()
            print(json.dumps([str(svid.spiffe_id) for svid in context.svids]))
        except WorkloadApiError as error:
            print(json.dumps(str(error.status)))
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def connected(path: Path) -> Iterator[Caller]:
    """A Caller for the test's own process, over a real connection."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen()
        client.connect(str(path))
        accepted, _ = listener.accept()
        with accepted:
            caller = Caller.of(accepted)
            yield caller
            caller.close()


async def test_our_own_process_has_all_the_selectors_that_the_system_can_tell(directory: Path) -> None:
    with connected(directory / "s") as caller:
        found = set(map(str, await Attestor().attest(caller)))
    program = os.readlink("/proc/self/exe")
    digest = hashlib.sha256(await asyncio.to_thread(Path(program).read_bytes)).hexdigest()
    uid, gid = os.getuid(), os.getgid()
    expected = {
        f"unix:uid:{uid}",
        *(f"unix:user:{one.pw_name}" for one in pwd.getpwall() if one.pw_uid == uid),
        f"unix:gid:{gid}",
        *(f"unix:group:{one.gr_name}" for one in grp.getgrall() if one.gr_gid == gid),
        f"unix:path:{program}",
        f"unix:sha256:{digest}",
        *(f"unix:supplementary_gid:{one}" for one in os.getgroups()),
    }
    assert expected <= found
    assert {one for one in found - expected if not one.startswith("unix:supplementary_group:")} <= {
        one for one in found if one.startswith(("docker:", "k8s:"))
    }


async def test_only_the_kinds_that_are_asked_for_are_given(directory: Path) -> None:
    with connected(directory / "s") as caller:
        assert await Attestor(["unix"]).attest(caller)
        assert await Attestor([]).attest(caller) == frozenset()


@contextmanager
def running(program: str | Path = "/bin/sleep") -> Iterator[tuple[Caller, Callable[[], object], Callable[[], object]]]:
    """A sleeping process as a caller, with a function that kills it and one that reaps it."""
    process = subprocess.Popen([program, "60"])
    caller = Caller(Credentials(process.pid, os.geteuid(), os.getegid()))

    def end() -> None:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    try:
        yield caller, end, process.wait
    finally:
        caller.close()
        process.kill()
        process.wait()


async def test_an_ended_process_has_no_selectors_reaped_or_not() -> None:
    with running() as (caller, end, notice):
        assert await Attestor().attest(caller)
        end()
        with pytest.raises(AccessError, match=": it has ended$"):
            await Attestor().attest(caller)
        notice()
        with pytest.raises(AccessError, match=": it has ended, or /proc hides it: No such process$"):
            await Attestor().attest(caller)


async def test_a_process_that_ended_before_the_accept_has_no_identity(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "s"))
        listener.listen()
        connect = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(directory / 's')!r})"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", connect)
        await process.wait()
        accepted, _ = listener.accept()
    with accepted:
        known_gone = not peer_still_runs(accepted)
        assert known_gone or _kernel() < (6, 5)
        with pytest.raises(AccessError, match="its /proc directory can't be opened: No such file"):
            await Attestor().attest(Caller.of(accepted))


def _kernel() -> tuple[int, ...]:
    return tuple(map(int, os.uname().release.split(".")[:2]))


async def test_a_process_of_another_user_than_the_callers_has_no_selectors() -> None:
    caller = Caller(Credentials(os.getpid(), os.geteuid() + 1, os.getegid()))
    with pytest.raises(AccessError, match=f"it runs as uid {os.geteuid()}, gid {os.getegid()} now"):
        await Attestor().attest(caller)


async def test_an_unused_pid_has_no_selectors() -> None:
    caller = Caller(Credentials(2**22 + 1, os.geteuid(), os.getegid()))
    with pytest.raises(AccessError, match=f"pid {2**22 + 1}: its /proc directory can't be opened: No such file"):
        await Attestor().attest(caller)


async def test_a_process_in_a_namespace_that_we_cannot_see_is_known_by_the_kernels_word_alone() -> None:
    found = await Attestor().attest(Caller(Credentials(0, 4242, 4343)))
    assert set(map(str, found)) == {"unix:uid:4242", "unix:gid:4343"}


async def test_a_closed_connection_identifies_no_caller(directory: Path) -> None:
    with connected(directory / "s") as caller:
        assert await Attestor().attest(caller)
    with pytest.raises(AccessError, match="its connection has ended"):
        await Attestor().attest(caller)


async def test_a_program_that_was_replaced_has_another_hash(directory: Path) -> None:
    program = directory / "sleep"
    program.write_bytes(await asyncio.to_thread(Path("/bin/sleep").read_bytes))
    program.chmod(0o755)
    attestor, digests = Attestor(), []
    for content in (b"", b"another build"):
        with program.open("ab") as file:
            file.write(content)
        with running(program) as (caller, _, _):
            found = {str(one) for one in await attestor.attest(caller)}
        digests += [one for one in found if one.startswith("unix:sha256:")]
        assert f"unix:path:{program}" in found
    assert len(set(digests)) == 2


async def test_a_program_has_a_path_while_its_file_is_the_running_one(directory: Path) -> None:
    program = directory / "cat"
    shutil.copy("/bin/cat", program)
    with echoing([str(program)]) as caller:
        assert f"unix:path:{program}" in await paths_of(caller)
        newer = directory / "newer"
        shutil.copy("/bin/cat", newer)
        newer.rename(program)
        assert await paths_of(caller) == set()


async def test_a_path_in_the_callers_own_mount_namespace_gives_no_selector(directory: Path) -> None:
    """Any user may create a mount namespace, and have any program there under any path."""
    trusted = directory / "trusted"
    shutil.copy("/bin/cat", trusted)
    forge = 'mount --bind "$1" "$2" && exec "$2"'
    forged = ["unshare", "--mount", "sh", "-c", forge, "sh", "/bin/cat", str(trusted)]
    require("mounts", _may_mount(), "needs root and the right to mount, to put one program over another")
    with echoing([str(trusted)]) as caller:
        assert await paths_of(caller) == {f"unix:path:{trusted}"}
    with echoing(forged) as caller:
        assert caller.process is not None
        assert caller.process.link("exe") == os.fsencode(trusted)
        assert await paths_of(caller) == set()


def _may_mount() -> bool:
    return os.geteuid() == 0 and succeeds(["unshare", "--mount", "true"])


@contextmanager
def echoing(command: list[str]) -> Iterator[Caller]:
    """Run a command that execs cat, and yield its process once it echoes."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"there?\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"there?\n"
        caller = Caller(Credentials(process.pid, os.geteuid(), os.getegid()))
        yield caller
        caller.close()
        process.stdin.close()


async def paths_of(caller: Caller) -> set[str]:
    return {str(one) for one in await Attestor().attest(caller) if one.value.startswith("path:")}


async def test_a_third_user_without_an_entry_gets_no_identity_beside_two_with_one(directory: Path) -> None:
    require("root", os.geteuid() == 0, "only root can become another user")
    entries = [entry("/a", f"unix:uid:{NOBODY}"), entry("/b", f"unix:uid:{NOBODY - 1}")]
    async with agent_at(directory / "agent.sock", *entries) as mesh:
        said = [await _workload(mesh.agent.address, uid) for uid in (NOBODY, NOBODY - 1, NOBODY - 2)]
    assert said == [["spiffe://example.org/a"], ["spiffe://example.org/b"], "Status.PERMISSION_DENIED"]


async def _workload(address: str, uid: int) -> object:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKLOAD, address, str(uid), stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    return json.loads(out)


@pytest.mark.parametrize("name", [b"a\nb", b"a\x1b[2J", b"\xff", "\u202e".encode(), "\x85".encode()], ids=repr)
async def test_an_unprintable_path_gives_no_selector_and_forges_no_log_line(
    directory: Path, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    program = os.path.join(os.fsencode(directory), name)
    await asyncio.to_thread(shutil.copy, b"/bin/sleep", program)
    with running(os.fsdecode(program)) as (caller, _, _):
        found = set(map(str, await Attestor().attest(caller)))
    assert not {one for one in found if one.startswith("unix:path:")}
    assert {one for one in found if one.startswith("unix:sha256:")}
    (message,) = caplog.messages
    assert message.isprintable()
    assert "omitting unix:path: " in message


@contextmanager
def groups(*names: bytes) -> Iterator[bytes]:
    """Nested control groups with these names at the root of a hierarchy, removed afterwards. Yields the innermost."""
    root = next(filter(_takes_groups, _hierarchies()), None)
    require("cgroup", root is not None, "no cgroup hierarchy can be written here")
    assert root is not None
    made: list[bytes] = []
    place = root
    try:
        for name in names:
            place = os.path.join(place, name)
            if not os.path.exists(place):
                os.mkdir(place)
                made.append(place)
        yield place
    finally:
        for one in reversed(made):
            os.rmdir(one)


def _hierarchies() -> Iterator[bytes]:
    """The mounted cgroup hierarchies, without those whose controllers could affect processes of this machine."""
    for line in Path("/proc/self/mounts").read_bytes().split(b"\n"):
        fields = line.split(b" ")
        if len(fields) > 3 and (fields[2] == b"cgroup2" or (fields[2] == b"cgroup" and b"name=" in fields[3])):
            yield fields[1]


def _takes_groups(root: bytes) -> bool:
    probe = os.path.join(root, f"meshtls-test-{os.getpid()}".encode())
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError:
        return False
    return True


async def containers_in(group: bytes) -> set[str]:
    """The container selectors of a process in this group."""
    with running() as (caller, end, notice):
        _enter(group, caller.credentials.pid)
        assert caller.process is not None
        assert os.path.basename(group) in caller.process.content("cgroup")
        found = {str(one) for one in await Attestor().attest(caller) if one.type != "unix"}
        end()
        notice()
    return found


def _enter(group: bytes, pid: int) -> None:
    Path(os.fsdecode(group), "cgroup.procs").write_bytes(str(pid).encode())


@pytest.mark.parametrize(
    "separator",
    [
        b"\r",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\x1d",
        b"\x1e",
        b"\x85",
        "\x85".encode(),
        "\u2028".encode(),
        "\u2029".encode(),
    ],
    ids=repr,
)
async def test_no_group_of_a_real_kernel_is_a_container_by_its_name(separator: bytes) -> None:
    forged = secrets.token_hex(32)
    with groups(b"meshtls-test" + separator + b"0::", b"docker", forged.encode()) as group:
        assert await containers_in(group) == set()


async def test_a_group_of_a_real_kernel_is_a_container_where_the_kernel_says_so() -> None:
    container = secrets.token_hex(32)
    with groups(b"docker", container.encode()) as group:
        assert await containers_in(group) == {f"docker:container_id:{container}"}
