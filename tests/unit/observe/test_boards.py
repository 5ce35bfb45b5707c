"""The rules and the dashboard as documents: what they refer to exists, and the page of runbooks has each alert."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from meshtls.agent.metrics import families as agent
from meshtls.cli.main import cli
from meshtls.errors import ConfigError
from meshtls.integrations.metrics import LIBRARY_FAMILIES
from meshtls.observe.boards.dashboard import UID, dashboard
from meshtls.observe.boards.panels import ROWS
from meshtls.observe.boards.rules import RUNBOOKS, alert_rules, prometheus_rule
from meshtls.observe.metrics import Family
from meshtls.observe.metrics.values import OVERFLOWS
from meshtls.server.metrics import families as server
from meshtls.sidecar.metrics import families as sidecar

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / RUNBOOKS).read_text("utf-8")
#: A name of ours in PromQL, and the labels that it is selected by.
METRIC = re.compile(r"\b((?:meshtls|istio)_\w{1,80})(?:\{([^}]{0,400})\})?")
MATCHER = re.compile(r'\b(\w{1,40})(=~|!=|=)"([^"]{0,400})"')
DECLARED: dict[str, Family] = {
    name: family
    for family in (*sidecar.FAMILIES, *agent.FAMILIES, *server.FAMILIES, *LIBRARY_FAMILIES, OVERFLOWS)
    for name in family.sample_names
}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(alert_rules())["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    return [query.expr for row in ROWS for panel in row.panels for query in panel.queries]


RULES = {rule["alert"]: rule for rule in rules()}


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_has_a_severity_a_text_and_a_runbook(alert: str) -> None:
    rule = RULES[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}#{alert.lower()}"
    assert rule["annotations"]["description"].endswith(".")


@pytest.mark.parametrize("alert", RULES)
def test_a_runbook_names_a_command_that_exists(alert: str) -> None:
    section = PAGE.partition(f"\n### {alert}\n")[2].partition("\n#")[0]
    commands = [one.split() for one in re.findall(r"`(meshtls [^`]+)`", section)]
    assert commands
    assert [words for words in commands if not is_command(words)] == []


def is_command(words: list[str]) -> bool:
    """Whether the words lead to a command, and that has each option among them."""
    command: click.Command | None = cli
    for at, word in enumerate(words[1:], 1):
        if not isinstance(command, click.Group):
            break
        if (command := command.get_command(click.Context(command), word)) is None:
            return False
        if command.name == "explain" and words[at + 1 : at + 2] != ["connection"]:
            break
    assert command is not None
    options = {name for parameter in command.params for name in parameter.opts}
    return {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize(
    "text", ["meshtls dance", "meshtls admin --loud", "meshtls log forget", "meshtls explain --id X"]
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    assert not is_command(text.split())


def test_the_page_has_a_section_for_each_alert_and_for_no_other() -> None:
    assert re.findall(r"^### (\w+)$", PAGE, flags=re.MULTILINE) == list(RULES)


def test_an_expression_uses_no_metric_or_label_value_that_is_not_declared() -> None:
    assert len(RULES) > 20
    assert [wrong for expr in (*(rule["expr"] for rule in RULES.values()), *queries()) for wrong in unknown(expr)] == []


def unknown(expr: str) -> list[str]:
    """The metrics, labels and values in an expression that no family has."""
    found = []
    for name, selector in METRIC.findall(expr):
        family = DECLARED.get(name)
        if family is None:
            found.append(name)
            continue
        labels = {label.name: label.values for label in family.labels} | {"job": (), "instance": (), "le": ()}
        for label, operator, value in MATCHER.findall(selector):
            values = labels.get(label)
            alternatives = value.split("|") if operator == "=~" else [value]
            if values is None:
                found.append(f"{name}{{{label}}}")
            elif values:
                found += [
                    f"{name}{{{label}={one}}}"
                    for one in alternatives
                    if not any(re.fullmatch(one, known) for known in values)
                ]
    return found


@pytest.mark.parametrize(
    ("expr", "wrong"),
    [
        ("rate(meshtls_connection_total[5m])", ["meshtls_connection_total"]),
        ('meshtls_ready{colour="red"}', ["meshtls_ready{colour}"]),
        ('meshtls_tls_sessions_total{resumed="yes"}', ["meshtls_tls_sessions_total{resumed=yes}"]),
        (
            'meshtls_connections_refused_total{outcome=~"PEER_.*|NOBODY"}',
            ["meshtls_connections_refused_total{outcome=NOBODY}"],
        ),
        ('sum by (job) (meshtls_open_connections{direction="inbound"})', []),
    ],
)
def test_an_unknown_metric_label_or_value_is_found(expr: str, wrong: list[str]) -> None:
    assert unknown(expr) == wrong


def test_the_runbooks_can_be_anywhere() -> None:
    there = "https://docs.example.org/meshtls/alerts.html"
    moved = yaml.safe_load(alert_rules(there))
    assert [rule["annotations"]["runbook_url"] for group in moved["groups"] for rule in group["rules"]] == [
        f"{there}#{alert.lower()}" for alert in RULES
    ]


@pytest.mark.parametrize(
    "text", ["docs/other.md", "ftp://x", "https://x y", "https://x\n- a: b", "https://x/#a", 'https://x/"', ""]
)
def test_a_runbook_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="wanted an address such as https://docs.example.org/meshtls/alerts.html"):
        alert_rules(text)


def test_the_resource_of_the_operator_has_the_same_rules() -> None:
    resource = yaml.safe_load(prometheus_rule(alert_rules()))
    assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert resource["spec"] == yaml.safe_load(alert_rules())


def test_the_dashboard_asks_for_its_data_source_and_names_it_everywhere() -> None:
    board: Any = dashboard()
    assert json.loads(json.dumps(board)) == board
    assert (board["uid"], board["schemaVersion"] >= 39, board["__inputs"][0]["name"]) == (UID, True, "DS_PROMETHEUS")
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert all(panel["datasource"] == source for panel in panels)
    assert all(target["datasource"] == source for panel in panels for target in panel["targets"])
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert list(variables) == ["DS_PROMETHEUS", "job", "instance"]
    assert (variables["job"]["datasource"], variables["instance"]["datasource"]) == (source, source)


def test_the_panels_have_their_own_places_and_numbers_and_choose_processes() -> None:
    board: Any = dashboard()
    assert [panel["title"] for panel in board["panels"] if panel["type"] == "row"] == [row.title for row in ROWS]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [(panel["title"], panel["gridPos"]) for panel in board["panels"]]
    assert [title for title, place in places if place["x"] + place["w"] > 24] == []
    assert [(one, other) for (one, a), (other, b) in combinations(places, 2) if _overlap(a, b)] == []
    assert [expr for expr in queries() if expr.count('{job=~"$job",instance=~"$instance"') == 0] == []


def _overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    return (
        a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    )
