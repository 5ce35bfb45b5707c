"""The table of states that ARCHITECTURE.md shows is the one in the code."""

from __future__ import annotations

from pathlib import Path

from meshtls.cli.reference import pages


def test_the_states_of_an_authority_are_as_the_reference_has_them() -> None:
    reference = dict(pages())["states.md"].partition("`ca/authority_states.py`")[2].strip().partition("\n\n")[0]
    shown = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()
    assert "\n".join(f"   {line}" for line in reference.splitlines()) in shown
