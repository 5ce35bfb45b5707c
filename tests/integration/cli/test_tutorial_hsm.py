"""The page docs/tutorial-hsm.md as its reader runs it: its files, its commands, and the output that it shows."""

from __future__ import annotations

import pytest

from tests.integration.cli.tutorial import DOCS, follow_page
from tests.support.agent import short_directory
from tests.support.require import require
from tests.support.softhsm import has_soft_hsm

PAGE = DOCS / "tutorial-hsm.md"


@pytest.mark.timeout(600)  # some forty commands, each a process
def test_the_commands_of_the_page_have_the_output_that_it_shows() -> None:
    require("softhsm", has_soft_hsm(), "needs softhsm2 and opensc")
    with short_directory() as directory:
        # Free ports; the page leaves the usual ones.
        follow_page(PAGE.read_text("utf-8"), directory, {"server.yaml": "bind_port: 0\n"})
