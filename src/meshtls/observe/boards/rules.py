"""The alert rules, as Prometheus reads them and as the Prometheus Operator does.

``rules.yaml`` has the rules, and docs/alerts.md a section for each of them, to which its ``runbook_url`` leads.
"""

from __future__ import annotations

import re
import textwrap
from importlib.resources import files

from meshtls.errors import ConfigError

__all__ = ["RUNBOOKS", "alert_rules", "prometheus_rule"]

#: Where the runbooks are, unless the caller says where the page is published.
RUNBOOKS = "docs/alerts.md"
#: Characters that need no quotes in YAML, and no escape in an address (RFC 3986, section 2).
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~\[\]:-]+(?:/[A-Za-z0-9._~%/-]*)?")
_OPERATED = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: meshtls
  labels:
    app.kubernetes.io/name: meshtls
spec:
"""


def alert_rules(runbooks: str = RUNBOOKS) -> str:
    """The rules as a file for ``rule_files`` of Prometheus.

    ``runbooks``: the http or https address of the page with the runbooks, without a fragment. Raises ConfigError for
    another text.
    """
    if runbooks != RUNBOOKS and not _ADDRESS.fullmatch(runbooks):
        raise ConfigError(
            f"runbooks: wanted an address such as https://docs.example.org/meshtls/alerts.html, got {runbooks!r}"
        )
    text = files(__package__).joinpath("rules.yaml").read_text("utf-8")
    return text.replace(f"runbook_url: {RUNBOOKS}#", f"runbook_url: {runbooks}#")


def prometheus_rule(rules: str) -> str:
    """These rules as a PrometheusRule, the custom resource of the Prometheus Operator."""
    return _OPERATED + textwrap.indent(rules, "  ")
