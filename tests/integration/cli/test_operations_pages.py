"""The page of operations as its readers run it: its files, its commands, and the output that it shows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping

import pytest

from tests.integration.cli.tutorial import DOCS, follow_page
from tests.support.agent import short_directory
from tests.support.ports import free_ports
from tests.support.postgres import running_postgres
from tests.support.require import require

pytestmark = pytest.mark.timeout(300)

#: The ports of the page, which are others here.
PORTS = ("8081", "8082", "9081", "9082")
#: The section that needs PostgreSQL.
TWO_SERVERS = "## Two servers"


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "operations.md").read_text("utf-8")


def run(text: str, more: Mapping[str, str]) -> None:
    """``more`` has lines to add to files of the page, as it names its ports."""
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))

    def here(said: str) -> str:
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: ports[found[1]], said)

    with short_directory() as directory:
        follow_page(here(text), directory, {name: here(lines) for name, lines in more.items()})


def test_a_single_server_is_installed_backed_up_and_restored_as_the_page_shows(page: str) -> None:
    require("sqlite3", shutil.which("sqlite3") is not None, "needs SQLite's command sqlite3")
    one, heading, _ = page.partition(TWO_SERVERS)
    assert heading
    run(one, {"server.yaml": "bind_port: 8081\nattest_port: 8082\n"})


def test_two_servers_on_one_database_do_what_the_page_shows(page: str) -> None:
    _, _, two = page.partition(TWO_SERVERS)
    with running_postgres() as cluster:
        text = two.replace("postgresql://mesh@db.example.org/mesh", cluster.new_database())
        assert text != two
        run(text, {"one.yaml": "bind_port: 8081\nattest_port: 8082\n"})
