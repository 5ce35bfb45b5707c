"""The tutorials as their readers run them: their files, their commands, and the output that they show."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.integration.cli.tutorial import DOCS, SECONDS, follow_page
from tests.support.agent import short_directory
from tests.support.ports import free_ports
from tests.support.require import require, runs_for_others, succeeds
from tests.support.spire import spire_programs

#: The ports of each page, which are others here.
PAGES = {
    "tutorial-strict.md": ("8080", "15001", "15002", "15006", "15021"),
    "tutorial-rotation.md": ("8080", "15001", "15006"),
    "tutorial-revocation.md": ("8080", "15001", "15006"),
    "tutorial-log.md": ("8085",),
    "tutorial-wire.md": (),
    "lesson.md": ("8080", "8443", "15001", "15006"),
    "tutorial-federation.md": ("8080", "15001", "15006", "18090", "18443", "18444"),
}
#: It needs a token: see test_tutorial_hsm.py.
HSM_PAGE = "tutorial-hsm.md"
#: It needs SPIRE's programs.
SPIRE_PAGE = "tutorial-federation.md"
#: It captures packets.
WIRE_PAGE = "tutorial-wire.md"
#: On a busy machine OpenSSL's server resets a connection that curl closes late: then it is captured again.
WIRE_SECONDS = 120
#: It runs programs as other users.
ROOT_PAGE = "lesson.md"


def test_every_tutorial_is_run() -> None:
    assert {path.name for path in DOCS.glob("tutorial-*.md")} == {*PAGES, HSM_PAGE} - {ROOT_PAGE}


@pytest.mark.timeout(600)  # the lessons wait until an SVID has expired
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_page_have_the_output_that_it_shows(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == ROOT_PAGE and (os.geteuid() != 0 or not shutil.which("setpriv")):
        pytest.skip("needs root, to become other users")
    if page == ROOT_PAGE:
        require("another user", runs_for_others(), "another user can't run this Python")
    if page == WIRE_PAGE:
        require(
            "namespaces",
            succeeds(("unshare", "-Urn", "ip", "link", "set", "lo", "up")),
            "no user namespaces, or no unshare and ip",
        )
    if page == SPIRE_PAGE:
        monkeypatch.setenv("PATH", f"{spire_programs()}{os.pathsep}{os.environ['PATH']}")
    with short_directory() as directory:
        text = (DOCS / page).read_text("utf-8").replace("/tmp/mesh", str(directory))  # noqa: S108  # the page's directory
        bind, attest, *others = free_ports(len(PAGES[page]) + 2)
        for said, port in zip(PAGES[page], others, strict=True):
            text = (
                text.replace(f":{said}", f":{port}")
                .replace(f" {said} ", f" {port} ")
                .replace(f" {said}\n", f" {port}\n")
                .replace(f"port {said}.", f"port {port}.")
            )
        files = {
            "server.yaml": f"bind_port: {bind}\nattest_port: {attest}\n",
            "agent.yaml": f"server_port: {bind}\nattest_port: {attest}\n",
        }
        follow_page(text, directory, files, seconds=WIRE_SECONDS if page == WIRE_PAGE else SECONDS)


def test_the_commands_of_the_readme_for_policies_have_the_output_that_it_shows() -> None:
    section = (DOCS.parent / "README.md").read_text("utf-8").split("\n## Istio's rules")[1].split("\n## ")[0]
    with short_directory() as directory:
        follow_page(section, directory, {})
