"""``meshtls observe``: what it prints is what Prometheus, its operator and Grafana read."""

from __future__ import annotations

import json

import pytest
import yaml

from meshtls.observe.boards.dashboard import dashboard
from meshtls.observe.boards.rules import alert_rules, prometheus_rule
from tests.integration.cli.identity_site import tell


def test_the_rules_are_printed_as_they_are() -> None:
    told = tell("observe", "rules")
    assert (told.code, told.out, told.err) == (0, alert_rules(), "")


def test_the_rules_are_printed_for_the_operator_with_runbooks_elsewhere() -> None:
    there = "https://docs.example.org/alerts.html"
    told = tell("observe", "rules", "--format", "prometheus-rule", "--runbooks", there)
    assert (told.code, told.out, told.err) == (0, prometheus_rule(alert_rules(there)), "")
    assert f"runbook_url: {there}#meshtlsdown\n" in told.out


@pytest.mark.parametrize("form", ["prometheus", "prometheus-rule"])
def test_the_rules_as_json_are_those_as_yaml(form: str) -> None:
    as_json = tell("observe", "rules", "--format", form, "--output", "json")
    assert (as_json.code, as_json.json) == (0, yaml.safe_load(tell("observe", "rules", "--format", form).out))


def test_a_runbook_address_that_is_none_is_refused() -> None:
    told = tell("observe", "rules", "--runbooks", "docs.example.org")
    assert (told.code, told.out) == (2, "")
    assert told.err == (
        "meshtls: runbooks: wanted an address such as https://docs.example.org/meshtls/alerts.html,"
        " got 'docs.example.org'\n"
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_dashboard_is_json_in_either_form(form: str) -> None:
    told = tell("observe", "grafana", "--output", form)
    assert (told.code, json.loads(told.out), told.err) == (0, dashboard(), "")
