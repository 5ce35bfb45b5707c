"""The commands of docs/policy-commands.md give the output that the page shows; ``...`` stands for what is left out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from meshtls.cli.main import main
from tests.unit.policy.recorded_lines import request

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "policy-commands.md").read_text("utf-8")
YAML = [part.partition("```")[0] for part in PAGE.split("```yaml\n")[1:]]
_CONSOLE = [part.partition("```")[0].partition("\n") for part in PAGE.split("```console\n$ meshtls ")[1:]]
COMMANDS = [(command, output) for command, _, output in _CONSOLE]
ORDER, PAYMENT = (f"spiffe://cluster.local/ns/production/sa/{name}" for name in ("order", "payment"))


def lines() -> list[str]:
    common = {"source_id": ORDER, "destination_id": PAYMENT}
    return [
        request("POST", "/api/payments", **common),
        request("GET", "/api/payments/4711", **common, time="2030-01-01T00:00:01Z"),
        request("GET", "/", plaintext=True, destination_id=PAYMENT, time="2030-01-01T00:00:02Z", source_id=None),
        "{",
    ]


@pytest.mark.parametrize(("command", "output"), COMMANDS, ids=[" ".join(one.split()[:2]) for one, _ in COMMANDS])
def test_a_command_of_the_page_prints_what_the_page_shows(
    command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policies, sidecar, cases = YAML
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "payment.yaml").write_text(policies)
    (tmp_path / "payment.yaml").write_text(sidecar)
    (tmp_path / "cases.yaml").write_text(cases)
    (tmp_path / "access.log").write_text("\n".join(lines()))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit):
        main(shlex.split(command))

    shown = re.escape(output).replace(re.escape("...\n"), "(?:.*\n)+?")
    assert re.fullmatch(shown, capsys.readouterr().out)


def test_the_page_has_a_command_of_each_verb_that_needs_no_sidecar() -> None:
    assert [one.split()[1] for one, _ in COMMANDS] == ["check", "explain", "explain", "test", "replay", "suggest"]
