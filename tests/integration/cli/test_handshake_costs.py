"""The page about the costs of a handshake: its commands, with figures near those that it shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.cli.tutorial import DOCS, follow_page, matches
from tests.support.agent import short_directory
from tests.support.require import require, succeeds

_ROOT = Path(__file__).parents[3]
_IN_A_NAMESPACE = ("unshare", "-Urn")
_MAKE_A_TUN_INTERFACE = ("ip", "tuntap", "add", "name", "net0", "mode", "tun")


#: TCP of a busy machine sends packets again that were only late: then all of a block's commands run again.
_SECONDS = 120


@pytest.mark.timeout(900)
def test_the_commands_of_the_page_have_the_figures_that_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    require("namespaces", succeeds((*_IN_A_NAMESPACE, "ip", "link")), "no user namespaces, or no ip")
    require("tun", succeeds((*_IN_A_NAMESPACE, *_MAKE_A_TUN_INTERFACE)), "no TUN interface in a namespace")
    require("jq", shutil.which("jq") is not None, "no jq")
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    with short_directory() as directory:
        follow_page((DOCS / "handshake-costs.md").read_text("utf-8"), directory, {}, near=0.15, seconds=_SECONDS)


@pytest.mark.parametrize(
    ("came", "is_near"),
    [
        ("a.1.3  1000 + 2  0.97  12 ms\n", True),
        ("a.1.3 1149 + 2 1.13 900.5 ms\n", True),
        ("a.1.3 1151 + 2 0.97 12 ms\n", False),
        ("a.1.3 1000 + 3 0.97 12 ms\n", False),
        ("a.1.3 1000 + 2 1.15 12 ms\n", False),
        ("a.1.3 1000 + 2 0.97 - ms\n", False),
        ("b.1.3 1000 + 2 0.97 12 ms\n", False),
        ("a.1.3 1000 + 2 0.97\n", False),
    ],
)
def test_a_figure_is_near_the_one_that_is_shown_if_it_differs_by_a_small_part(came: str, is_near: bool) -> None:
    assert matches("a.1.3      1000 + 2         0.97        12 ms\n", came, near=0.15) is is_near
