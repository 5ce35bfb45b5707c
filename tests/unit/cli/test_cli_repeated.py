"""Several values after one option, as click reads them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from meshtls.cli.options import RepeatedOptions


@click.command(cls=RepeatedOptions)
@click.option("--allow", "-a", multiple=True)
@click.option("--other")
def command(allow: tuple[str, ...], other: str | None) -> None:
    click.echo(f"{' '.join(allow)}|{other}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--allow", "a", "b", "c"), "a b c|None"),
        (("--allow=a", "b", "--allow", "c"), "a b c|None"),
        (("-a", "a", "b", "--other", "o", "-a", "c"), "a b c|o"),
        (("--allow", "-a", "b"), "-a b|None"),
        (("--other=o",), "|o"),
    ],
)
def test_several_values_may_follow_one_option(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(command, arguments)
    assert (done.exit_code, done.output) == (0, f"{said}\n")


@pytest.mark.parametrize("arguments", [("a", "--allow", "b"), ("--allow", "a", "--other", "o", "b"), ("--", "a")])
def test_a_value_that_follows_no_such_option_is_refused(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2
    assert "Got unexpected extra argument" in done.output
