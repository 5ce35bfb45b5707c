"""The pages of migrations as their readers run them: their files, their commands, and the output that they show."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping

import pytest

from tests.integration.cli.tutorial import DOCS, follow_page
from tests.support.agent import short_directory
from tests.support.ports import free_ports
from tests.support.require import require
from tests.support.spire import spire_programs

pytestmark = pytest.mark.timeout(300)

#: The lines that give a page's files ports of their own, by names that ``PORTS`` has.
OURS = {
    "server.yaml": "bind_port: BIND\nattest_port: ATTEST\n",
    "agent.yaml": "server_port: BIND\nattest_port: ATTEST\n",
}


def run(page: str, replaced: Mapping[str, str], ports: tuple[str, ...] = ()) -> None:
    """``ports`` of the page are others here, and all of its users the one that runs this."""
    text = (DOCS / page).read_text("utf-8")
    numbers = dict(zip(("BIND", "ATTEST", *ports), map(str, free_ports(2 + len(ports))), strict=True))
    names = re.compile(rf"\b({'|'.join(numbers)})\b")

    def here(said: str) -> str:
        return names.sub(lambda found: numbers[found[1]], said)

    for said, instead in replaced.items():
        assert said in text
        text = text.replace(said, instead)
    text = re.sub(r"\bunix:user:[a-z]+\b", f"unix:uid:{os.getuid()}", text)
    with short_directory() as directory:
        text = here(text.replace("/tmp/mesh", str(directory)))  # noqa: S108  # the page's directory
        follow_page(text, directory, {name: here(lines) for name, lines in OURS.items()})


def test_a_service_with_static_certificates_moves_as_the_page_shows() -> None:
    require("nginx", shutil.which("nginx") is not None, "needs nginx")
    run("migration-certificates.md", {}, ("8443",))


def test_a_mesh_of_spires_moves_below_it_as_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{spire_programs()}{os.pathsep}{os.environ['PATH']}")
    run("migration-spire.md", {"spire.example.org": "127.0.0.1"}, ("8080", "8081", "9988"))
