"""``meshtls observe``: alert rules for Prometheus, and a dashboard for Grafana."""

from __future__ import annotations

import json

import click
import yaml

from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.observe.boards.dashboard import dashboard
from meshtls.observe.boards.rules import RUNBOOKS, alert_rules, prometheus_rule

__all__ = ["observe"]


@click.group()
def observe() -> None:
    """Alert rules and a dashboard for the metrics of sidecars, agents and servers."""


@observe.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["prometheus", "prometheus-rule"]),
    default="prometheus",
    show_default=True,
    help="A file for rule_files of Prometheus, or a PrometheusRule of the Prometheus Operator.",
)
@click.option(
    "--runbooks",
    metavar="URL",
    default=RUNBOOKS,
    show_default=True,
    help="Where the page with the runbooks is published; each alert's runbook_url leads to its section there.",
)
@output_option
def rules(form: str, runbooks: str, out: Output) -> None:
    """Print the alert rules as YAML; with --output json as JSON, which Prometheus reads, too.

    docs/alerts.md says for each alert what it means, which command to run, and what to do.
    """
    text = alert_rules(runbooks)
    if form == "prometheus-rule":
        text = prometheus_rule(text)
    out.record(yaml.safe_load(text), text.removesuffix("\n"))


@observe.command()
@output_option
def grafana(out: Output) -> None:
    """Print the dashboard as JSON, for Grafana's "Import dashboard" and for a provisioned folder."""
    board = dashboard()
    out.record(board, json.dumps(board, indent=2))
