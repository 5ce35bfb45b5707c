"""The dashboard as Grafana imports it: its JSON model of schemaVersion 39, for Grafana 10.4 and newer. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.observe.boards.panels import ROWS, Panel, Row

__all__ = ["UID", "dashboard"]

#: It stays the same, so that an import replaces the dashboard and addresses of it remain valid.
UID = "meshtls-mesh"
_INPUT = "DS_PROMETHEUS"
_SOURCE = {"type": "prometheus", "uid": f"${{{_INPUT}}}"}
_COLUMNS, _HEIGHT = 24, 8
_REF_IDS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def dashboard() -> dict[str, object]:
    """The dashboard, which ``json.dumps`` takes.

    The data source is an input, for which "Import dashboard" asks, and also a variable of the same name: Grafana does
    not resolve the inputs of a dashboard that it reads from a provisioned folder.
    """
    return {
        "__inputs": [
            {
                "name": _INPUT,
                "label": "Prometheus",
                "description": "The Prometheus that scrapes the mesh.",
                "type": "datasource",
                "pluginId": "prometheus",
                "pluginName": "Prometheus",
            }
        ],
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.4.0"},
            {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
            {"type": "panel", "id": "stat", "name": "Stat", "version": ""},
            {"type": "panel", "id": "timeseries", "name": "Time series", "version": ""},
        ],
        "id": None,
        "uid": UID,
        "title": "meshtls",
        "description": "Sidecars, agents and servers of a meshtls service mesh.",
        "tags": ["meshtls", "spiffe", "mtls"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, object]]:
    yield {
        "name": _INPUT,
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }
    for name, label, query in (
        ("job", "Job", "label_values(meshtls_build_info, job)"),
        ("instance", "Instance", 'label_values(meshtls_build_info{job=~"$job"}, instance)'),
    ):
        yield {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": _SOURCE,
            "definition": query,
            "query": {"query": query, "refId": f"variable-{name}"},
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "allValue": ".*",
            "hide": 0,
            "includeAll": True,
            "multi": True,
            "options": [],
            "refresh": 2,
            "regex": "",
            "sort": 1,
        }


def _panels() -> Iterator[dict[str, object]]:
    number, top = 1, 0
    for row in ROWS:
        yield _row(row, number, top)
        number, top, left = number + 1, top + 1, 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left = top + _HEIGHT, 0
            place = {"x": left, "y": top, "w": panel.width, "h": _HEIGHT}
            yield _panel(panel, number) | {"gridPos": place}
            number, left = number + 1, left + panel.width
        top += _HEIGHT


def _row(row: Row, number: int, top: int) -> dict[str, object]:
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1},
        "panels": [],
    }


def _panel(panel: Panel, number: int) -> dict[str, object]:
    defaults: dict[str, object] = {"unit": panel.unit, "min": 0}
    if panel.signed:
        del defaults["min"]
    if panel.stat:
        steps = [{"color": color, "value": value} for color, value in panel.steps]
        defaults |= {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}
        options: dict[str, object] = {
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        }
    else:
        defaults |= {
            "color": {"mode": "palette-classic"},
            "custom": {
                "drawStyle": "line",
                "fillOpacity": 10,
                "lineWidth": 1,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"group": "A", "mode": "none"},
            },
        }
        options = {
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": ref_id,
                "datasource": _SOURCE,
                "editorMode": "code",
                "expr": query.expr,
                "legendFormat": query.legend,
                "instant": panel.stat,
                "range": not panel.stat,
            }
            for ref_id, query in zip(_REF_IDS, panel.queries, strict=False)
        ],
    }
