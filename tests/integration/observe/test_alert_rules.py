"""Each alert rule fires for its series, and not for those that differ in one thing, as promtool says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshtls.observe.boards.rules import RUNBOOKS, alert_rules
from tests.integration.observe.alert_cases import Case
from tests.integration.observe.server_alert_cases import SERVER_CASES
from tests.integration.observe.sidecar_alert_cases import SIDECAR_CASES, VALID, failed
from tests.support.prometheus import promtool

CASES = {**SIDECAR_CASES, **SERVER_CASES}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(alert_rules())
    return file


def verdict(rules: Path, alert: str, at: int, *tested: tuple[Mapping[str, str], list[Any]]) -> str:
    """What promtool says against it that each of these series has this outcome; nothing if it agrees."""
    test = {
        "rule_files": [str(rules)],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": of} for name, of in values.items()],
                "alert_rule_test": [{"eval_time": f"{at}m", "alertname": alert, "exp_alerts": expected}],
            }
            for values, expected in tested
        ],
    }
    file = rules.with_name("test.yaml")
    file.write_text(json.dumps(test))
    done = promtool("test", "rules", file)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def fired(alert: str, case: Case) -> list[Any]:
    return [
        {
            "exp_labels": {"severity": case.severity, **case.whose, **case.labels},
            "exp_annotations": {
                "summary": case.summary,
                "description": case.description,
                "runbook_url": f"{RUNBOOKS}#{alert.lower()}",
            },
        }
    ]


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_for_its_series_and_not_for_their_twins(alert: str, rules: Path) -> None:
    case = CASES[alert]
    twins: list[tuple[Mapping[str, str], list[Any]]] = [
        ({**case.values, **differing}, []) for differing in case.twins.values()
    ]
    assert verdict(rules, alert, case.at, (case.values, fired(alert, case)), *twins) == ""


def test_every_alert_has_series_that_fire_it_and_a_twin() -> None:
    rules = [rule["alert"] for group in yaml.safe_load(alert_rules())["groups"] for rule in group["rules"]]
    assert rules == list(CASES)
    assert [alert for alert, case in CASES.items() if not case.twins] == []


def test_promtool_notices_what_fires_wrongly_what_does_not_fire_and_another_message(rules: Path) -> None:
    alert = "MeshtlsSvidInvalid"
    case = CASES[alert]
    wanted = fired(alert, case)
    assert "got:[]" in verdict(rules, alert, case.at, ({}, wanted))
    assert "exp:[]" in verdict(rules, alert, case.at, ({}, []), (case.values, []))
    wanted[0]["exp_annotations"]["summary"] += "!"
    assert "SVID!" in verdict(rules, alert, case.at, (case.values, wanted))


def test_promtool_finds_nothing_wrong_with_the_rules(rules: Path) -> None:
    done = promtool("check", "rules", "--lint-fatal", rules)
    assert (done.returncode, done.stderr) == (0, "")


def requests_of_an_app(failed: str) -> dict[str, str]:
    labels = 'job="mesh",instance="node:9",source="spiffe://a.test/web",destination="spiffe://a.test/db"'
    return {
        f'meshtls_http_requests_total{{{labels},code_class="2xx",outcome="OK",verdict="allowed"}}': "0+3x30",
        f'meshtls_http_requests_total{{{labels},code_class="5xx",outcome="CONNECT_FAILED",verdict="failed"}}': failed,
    }


def test_an_app_that_does_not_answer_http_requests_fires_its_alert(rules: Path) -> None:
    alert = "MeshtlsAppUnreachable"
    wanted = {
        "exp_labels": {
            "severity": "critical",
            "job": "mesh",
            "instance": "node:9",
            "destination": "spiffe://a.test/db",
        },
        "exp_annotations": {
            "summary": "the app of spiffe://a.test/db does not answer its sidecar",
            "description": "25% of the connections or HTTP requests that mesh at node:9 let in ended with"
            " CONNECT_FAILED or APP_FAILED: the app is not running, or breaks off.",
            "runbook_url": f"{RUNBOOKS}#meshtlsappunreachable",
        },
    }
    at = CASES[alert].at
    assert verdict(rules, alert, at, (requests_of_an_app("0+1x30"), [wanted]), (requests_of_an_app("0x30"), [])) == ""


def wrong_identities(failures: str, valid: str) -> dict[str, str]:
    """Series of a stream that goes on: each message without an SVID of the wanted identity is one failure."""
    return {failed("other_identity"): failures, VALID: valid}


def test_a_failure_that_is_counted_once_fires_while_there_is_no_valid_svid(rules: Path) -> None:
    alert = "MeshtlsWorkloadApiFails"
    case = CASES[alert]
    wanted = fired(
        alert,
        replace(
            case,
            labels={"reason": "other_identity"},
            summary=case.summary.replace("unreachable", "other_identity"),
            description=case.description.replace("unreachable", "other_identity"),
        ),
    )
    cases: tuple[tuple[Mapping[str, str], list[Any]], ...] = (
        (wrong_identities("0x10 1x20", "0x30"), wanted),
        (wrong_identities("1x30", "0x30"), wanted),  # from before the first scrape
        (wrong_identities("0x30", "0x30"), []),
        (wrong_identities("0x10 1x20", "1x30"), []),
        (wrong_identities("1x30", "0x20 1x10"), []),
    )
    assert verdict(rules, alert, case.at, *cases) == ""
    assert verdict(rules, alert, 100, (wrong_identities("1x100", "0x100"), [])) == "", "it was more than an hour ago"
