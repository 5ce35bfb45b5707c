"""``blocking`` and processes: a source never left ends with its process, and is entered again in a forked child."""

from __future__ import annotations

import subprocess
import sys

from meshtls.pytest import Mesh

NEVER_LEFT = """
import meshtls
source = meshtls.blocking(meshtls.X509Source()).enter()
print(source.snapshot().svid.spiffe_id, flush=True)
"""
FORKED = """
import os, sys, time
import meshtls

source = meshtls.blocking(meshtls.X509Source()).enter()
before = source.snapshot().svid.serial
child = os.fork()
if child == 0:
    print("child", source.snapshot().svid.serial == before, flush=True)
    sys.stdin.readline()
    for _ in range(3000):
        if source.snapshot().svid.serial != before:
            break
        time.sleep(0.01)
    print("child", source.snapshot().svid.serial != before, flush=True)
    sys.exit(0)
_, status = os.waitpid(child, 0)
for _ in range(3000):
    if source.snapshot().svid.serial != before:
        break
    time.sleep(0.01)
print("parent", source.snapshot().svid.serial != before, os.waitstatus_to_exitcode(status), flush=True)
"""
POOL = """
import multiprocessing
import meshtls

source = meshtls.blocking(meshtls.X509Source()).enter()

def whoami(_):
    return str(source.snapshot().svid.spiffe_id)

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(*pool.map(whoami, range(4)), flush=True)
"""


def program(mesh_environment: dict[str, str], text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-W", "ignore:This process:DeprecationWarning", "-c", text],
        env=mesh_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_never_leaves_its_source_ends(mesh: Mesh) -> None:
    with mesh.workload_api("web") as api, program(api.environment, NEVER_LEFT) as process:
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out, err) == (0, f"{mesh.id('web')}\n", "")


def test_a_source_follows_its_workload_api_in_a_forked_child_and_in_the_parent(mesh: Mesh) -> None:
    with mesh.workload_api("web") as api, program(api.environment, FORKED) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "child True\n"
        api.rotate()
        out, err = process.communicate("go on\n", timeout=120)

    assert (process.returncode, out, err) == (0, "child True\nparent True 0\n", "")


def test_a_pool_of_forked_processes_has_the_source_in_each(mesh: Mesh) -> None:
    with mesh.workload_api("web") as api, program(api.environment, POOL) as process:
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out.split(), err) == (0, 4 * [str(mesh.id("web"))], "")
