"""Docker Compose for the tests: logs and events are followed, not polled."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.e2e.commands import COMMAND_TIMEOUT, checked, follow, run

FILES = ("docker-compose.yml", "tests/e2e/compose.twins.yaml")

UP_TIMEOUT = 600.0  # it may build the image first
HEALTHY_TIMEOUT = 180.0
LOG_TIMEOUT = 60.0


@cache
def engine_missing() -> str:
    """Why no Docker engine can be used here, or "" if one can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    try:
        info = run(["docker", "info"], timeout=20)
    except subprocess.TimeoutExpired:
        return "`docker info` did not answer"
    return "" if info.returncode == 0 else info.stderr.strip().splitlines()[-1]


@cache
def compose_command() -> tuple[str, ...]:
    """Compose's plugin if there is one, else the older program of its own, else nothing."""
    if shutil.which("docker") and run(["docker", "compose", "version"]).returncode == 0:
        return ("docker", "compose")
    return ("docker-compose",) if shutil.which("docker-compose") else ()


@dataclass(frozen=True)
class Stack:
    """One run of the compose file and the twins' beside it, under a project name that nothing else has."""

    project: str = field(default_factory=lambda: f"meshtls-e2e-{uuid.uuid4().hex[:8]}")

    def up(self) -> None:
        build = "--no-build" if "MESHTLS_IMAGE" in os.environ else "--build"
        try:
            self._compose("up", "--detach", build, timeout=UP_TIMEOUT)
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{self.logs()}") from failed

    def down(self) -> None:
        self._compose("down", "--volumes", "--remove-orphans", "--timeout", "5", timeout=120)

    def logs(self, *services: str) -> str:
        """The output of these services, or of all if none is named."""
        return self._compose("logs", "--no-color", *services).stdout

    def container(self, service: str) -> str:
        """The id of the service's container, running or not."""
        labels = {"project": self.project, "service": service}
        filters = [f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        (container,) = checked(["docker", "ps", "--all", "--quiet", "--no-trunc", *filters]).stdout.split()
        return container

    def inspect(self, service: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(checked(["docker", "inspect", self.container(service)]).stdout)
        return found[0]

    def address(self, service: str) -> str:
        """The service's address on the mesh's network; "" if it has none of its own."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks.get(f"{self.project}_mesh", {}).get("IPAddress", ""))

    def exec(
        self, service: str, *command: str, user: str | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the service's container, as the service's own user if no other is given."""
        options = ["--user", user] if user else []
        return run(["docker", "exec", "--interactive", *options, self.container(service), *command], stdin=stdin)

    def stop(self, service: str) -> int:
        """Stop the service, and kill it after ten seconds; returns its exit status."""
        checked(["docker", "stop", "--time=10", self.container(service)])
        return int(self.inspect(service)["State"]["ExitCode"])

    def start(self, service: str) -> None:
        """Start a stopped service again; return when it is healthy."""
        checked(["docker", "start", self.container(service)])
        self.wait_healthy(service)

    def wait_healthy(self, *services: str) -> None:
        """Return once each service's container is healthy. Raises with the logs if one dies or takes too long."""
        found = {service: self.inspect(service) for service in services}
        pending = {
            details["Id"]: service
            for service, details in found.items()
            if details["State"]["Health"]["Status"] != "healthy"
        }
        # From when the first of them started: what happened since the look above is among it.
        since = min(details["State"]["StartedAt"] for details in found.values())
        events = ["docker", "events", f"--since={since}", "--format={{.Actor.ID}} {{.Action}}"]
        events += [f"--filter=container={container}" for container in pending]
        events += ["--filter=event=health_status", "--filter=event=die"]
        for line in follow(events, HEALTHY_TIMEOUT) if pending else ():
            container, _, action = line.strip().partition(" ")
            if action == "die":
                raise AssertionError(f"{pending.get(container)} ended before it was healthy\n{self.logs()}")
            if action == "health_status: healthy":
                pending.pop(container, None)
            if not pending:
                break
        assert not pending, f"not healthy: {', '.join(pending.values())}\n{self.logs()}"

    def access_log(self, service: str) -> list[dict[str, Any]]:
        """The access records so far."""
        return list(_records(checked(["docker", "logs", self.container(service)]).stdout.splitlines()))

    def next_record(self, service: str, seen: int) -> dict[str, Any]:
        """The first access record after the `seen` earlier ones, waited for: it is written when its connection ends."""
        following = follow(["docker", "logs", "--follow", self.container(service)], LOG_TIMEOUT)
        for number, record in enumerate(_records(following)):
            if number == seen:
                return record
        raise AssertionError(f"{service} wrote no access record number {seen + 1}\n{self.logs()}")

    def _compose(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> subprocess.CompletedProcess[str]:
        files = [part for file in FILES for part in ("--file", file)]
        return checked([*compose_command(), "--project-name", self.project, *files, *arguments], timeout)


def _records(lines: Iterator[str] | Sequence[str]) -> Iterator[dict[str, Any]]:
    """The access records among the log's lines: the JSON objects that have a direction."""
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "direction" in record:
            yield record
