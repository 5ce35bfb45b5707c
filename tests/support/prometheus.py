"""A real Prometheus, and its promtool: to scrape what runs, evaluate rules, and answer queries."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.support.ports import free_ports
from tests.support.require import require

__all__ = ["Prometheus", "promtool", "running_prometheus", "wait_for"]

_SECONDS = 180.0


def wait_for(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    """Poll until this holds; after three minutes it fails and says ``what`` did not come."""
    end = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < end, f"not within {_SECONDS:g} s: {what()}"
        time.sleep(0.1)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end. Skips the test where it is not installed."""
    require("promtool", shutil.which("promtool") is not None, "install it (Debian: prometheus)")
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=_SECONDS, check=False
    )


@dataclass(frozen=True)
class Prometheus:
    """One that answers on this port of 127.0.0.1."""

    port: int

    def ask(self, path: str, **parameters: str) -> tuple[int, Any]:
        """The status and the JSON document of an API call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"{path}?{urlencode(parameters)}")
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def query(self, expr: str) -> list[Any]:
        """The series that an instant query returns now. Fails if it is no valid PromQL."""
        status, answer = self.ask("/api/v1/query", query=expr)
        assert (status, answer["status"]) == (200, "success"), (expr, answer)
        result: list[Any] = answer["data"]["result"]
        return result

    def alerts(self) -> list[Any]:
        """The alerts that are pending or fire now."""
        status, answer = self.ask("/api/v1/alerts")
        assert status == 200
        alerts: list[Any] = answer["data"]["alerts"]
        return alerts

    def firing(self, alert: str) -> list[Any]:
        return [one for one in self.alerts() if (one["labels"]["alertname"], one["state"]) == (alert, "firing")]

    def ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        except ConnectionError:
            return False
        finally:
            connection.close()


@contextmanager
def running_prometheus(directory: Path, jobs: Mapping[str, int], rules: str) -> Iterator[Prometheus]:
    """Scrape these ports of 127.0.0.1, by job, and evaluate these rules, each once a second, while the body runs.

    Its files are in ``directory``. Skips the test where it is not installed.
    """
    require("prometheus", shutil.which("prometheus") is not None, "install it (Debian: prometheus)")
    (directory / "rules.yaml").write_text(rules)
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(directory / "rules.yaml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
        ],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yaml'}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (
        (directory / "prometheus.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=directory) as process,
    ):
        try:
            server = Prometheus(port)

            def serves() -> bool:
                assert process.poll() is None, (directory / "prometheus.log").read_text()
                return server.ready()

            wait_for(serves, lambda: "Prometheus is ready")
            yield server
        finally:
            process.kill()
