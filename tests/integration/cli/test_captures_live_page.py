"""The page about capturing live connections, in a network namespace of its own."""

from __future__ import annotations

import shutil

import pytest

from tests.integration.cli.tutorial import DOCS, follow_page
from tests.support.agent import short_directory
from tests.support.own_network import OWN_NETWORK
from tests.support.require import require, succeeds


@pytest.mark.timeout(600)
def test_the_page_shows_what_the_commands_print() -> None:
    require("namespaces", succeeds((*OWN_NETWORK, "true")), "no user namespaces, or no unshare and ip")
    require("tshark", shutil.which("tshark") is not None, "no tshark")
    with short_directory() as directory:
        text = (DOCS / "captures-live.md").read_text("utf-8")
        text = text.replace("/tmp/mesh", str(directory))  # noqa: S108  # the page's directory
        follow_page(text, directory, {}, prefix=OWN_NETWORK)
