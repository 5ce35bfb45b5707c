"""OpenTelemetry's own Collector, with a receiver of OTLP over HTTP, which writes the spans that it gets to a log.

The program is the one that MESHTLS_OTELCOL_BIN names; ``.ci/otelcol.sh`` builds it. Without it the test is skipped, or
fails if MESHTLS_REQUIRE includes ``otelcol``.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshtls.address import Address
from meshtls.sidecar.tracing.keys import OtlpEndpoint
from tests.support.ports import free_ports
from tests.support.require import require

__all__ = ["Collector", "running_collector"]

_SECONDS = 90
_CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{debug: {{verbosity: detailed, use_internal_logger: false, output_paths: ["{log}"]}}}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{output_paths: ["{own}"], error_output_paths: ["{own}"]}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
"""
#: A line of its log such as ``    Trace ID       : 5b8e...`` or ``     -> rpc.method: Str(echo.Echo/Unary)``.
_LINE = re.compile(r" +(?:-> )?(?P<name>[A-Za-z][A-Za-z_. ]{0,63}?) *: (?P<value>.*)")


@dataclass(frozen=True, slots=True)
class Collector:
    """A running one."""

    endpoint: OtlpEndpoint
    log: Path

    def spans(self) -> list[dict[str, str]]:
        """What it has written of each span: the names as the Collector has them, and the attributes'."""
        if not self.log.exists():
            return []
        found: list[dict[str, str]] = []
        for block in re.split(r"^Span #\d+$", self.log.read_text(), flags=re.MULTILINE)[1:]:
            lines = (_LINE.fullmatch(line) for line in reversed(block.splitlines()))
            # The first of a name counts: a link has IDs, too, and comes after the span's own.
            found.append({line["name"]: line["value"] for line in lines if line is not None})
        return found


@contextmanager
def running_collector(directory: Path) -> Iterator[Collector]:
    """Enters when it takes connections."""
    program = os.environ.get("MESHTLS_OTELCOL_BIN", "")
    require("otelcol", bool(program), "set MESHTLS_OTELCOL_BIN to the program that .ci/otelcol.sh builds")
    port, log, own = free_ports(1)[0], directory / "spans.log", directory / "otelcol.log"
    config = directory / "otelcol.yaml"
    config.write_text(_CONFIG.format(port=port, log=log, own=own))
    with subprocess.Popen([program, "--config", f"file:{config}"]) as process:
        try:
            until = time.monotonic() + _SECONDS
            while "Everything is ready" not in (own.read_text() if own.exists() else ""):
                assert process.poll() is None, own.read_text() if own.exists() else "it did not start"
                assert time.monotonic() < until, own.read_text()
                time.sleep(0.05)
            yield Collector(OtlpEndpoint(False, Address("127.0.0.1", port)), log)
        finally:
            process.terminate()
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
