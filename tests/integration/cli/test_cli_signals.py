"""SIGTERM ends every process, whatever it is waiting for."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.cli.identity_site import running_agent, running_server
from tests.support.agent import SELF, eventually
from tests.support.require import require, succeeds

_SECONDS = 60

# Work whose end waits for a thread that never ends, as that of a name service that does not answer.
STUCK = """
import asyncio, sys, threading
from meshtls.cli.serving import stop_signal

async def main(grace):
    with stop_signal(grace) as stopped:
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
        print("serving", flush=True)
        await stopped.wait()
        print("stopping", flush=True)
        if len(sys.argv) > 2:
            await asyncio.Event().wait()

asyncio.run(main(float(sys.argv[1])))
"""


@contextmanager
def running(*command: str | Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_an_agent_ends_while_it_hashes_a_program_without_end_and_serves_others_before_that() -> None:
    with (
        running_server() as server,
        running_agent(server, "workload_size_limit: 0\n") as agent,
        agent.identity("/plain"),
    ):
        who = ("--spiffe-id", "spiffe://example.org/hashed", "--parent-id", agent.spiffe_id)
        server.json("entry", "create", *who, "--selector", f"unix:sha256:{'0' * 64}", "--selector", SELF)
        program = server.directory / "python"
        shutil.copy(os.path.realpath(sys.executable), program)
        os.truncate(program, 300 * 2**30)
        fetch = ("-m", "meshtls", "fetch", "x509", "--workload-socket", str(agent.socket))
        home = {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with running(program, *fetch, **home) as caller:
            asyncio.run(eventually(lambda: _reads(agent.process.popen.pid, program), seconds=_SECONDS))
            served = agent.tell("fetch", "x509", "--output", "json")
            assert [one["spiffe_id"] for one in json.loads(served.out)["svids"]] == ["spiffe://example.org/plain"]
            assert caller.poll() is None
            assert _reads(agent.process.popen.pid, program)
            assert agent.process.stop() == 0


def _reads(pid: int, file: Path) -> bool:
    """Whether this process has the file open to read it."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            leads = descriptor.readlink()
            flags = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().split("flags:")[1].split()[0]
        except FileNotFoundError:
            continue
        if leads == file and not int(flags, 8) & os.O_PATH:
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("more", [(), ("and waits",)], ids=["a thread", "the work itself"])
def test_a_process_that_does_not_stop_in_time_is_killed(number: signal.Signals, more: tuple[str, ...]) -> None:
    with running(sys.executable, "-c", STUCK, "0.5", *more) as process:
        assert line_of(process) == "serving"
        process.send_signal(number)
        assert line_of(process) == "stopping"
        assert process.wait(_SECONDS) == 128 + number
        assert process.stderr is not None
        assert process.stderr.read() == f"meshtls: not stopped within 0.5 s of {number.name}: exiting\n"


def test_a_second_signal_ends_a_process_at_once() -> None:
    with running(sys.executable, "-c", STUCK, "3600", "and waits") as process:
        assert line_of(process) == "serving"
        process.terminate()
        assert line_of(process) == "stopping"
        process.terminate()
        assert process.wait(_SECONDS) == 128 + signal.SIGTERM


def test_sigterm_ends_a_node() -> None:
    with running(sys.executable, "-m", "meshtls", "node") as process:
        _answered(process)
        process.terminate()
        assert process.wait(_SECONDS) == -signal.SIGTERM


def test_sigterm_ends_a_node_that_is_the_first_process_of_its_container() -> None:
    require(
        "namespaces",
        succeeds(["unshare", "--pid", "--fork", "true"]),
        "needs unshare and the right to make a process namespace",
    )
    with running("unshare", "--pid", "--fork", sys.executable, "-m", "meshtls", "node") as process:
        _answered(process)
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        assert process.wait(_SECONDS) == 128 + signal.SIGTERM


def _answered(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("{}\n")
    process.stdin.flush()
    assert "error" in line_of(process)
