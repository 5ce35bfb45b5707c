"""A sidecar's traces as a whole: its tracer, and the exporter that sends what the tracer makes."""

from __future__ import annotations

import time

from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError
from meshtls.observe.metrics import Metrics
from meshtls.sidecar.metrics import families
from meshtls.sidecar.settings import SidecarConfig
from meshtls.sidecar.tracing.contexts import Sampler
from meshtls.sidecar.tracing.exporter import SpanExporter
from meshtls.sidecar.tracing.tracer import Tracer

__all__ = ["SidecarTracing", "check_tracing"]


class SidecarTracing:
    """``tracer`` is an Observer. The task that runs ``exporter`` is the owner's."""

    def __init__(self, tracer: Tracer, exporter: SpanExporter) -> None:
        self.tracer = tracer
        self.exporter = exporter

    @classmethod
    def of(cls, config: SidecarConfig, clock: Clock) -> SidecarTracing | None:
        """None where the file has no section ``tracing``. Raises ConfigError where spans could not be sent."""
        keys = config.tracing
        if keys is None:
            return None
        try:
            from meshtls.sidecar.tracing.otlp import Encoder, rejected
        except ModuleNotFoundError as error:
            raise ConfigError(
                "tracing: spans need opentelemetry-proto; install it with: pip install 'meshtls[otel]'"
            ) from error
        name = keys.service_name or config.workload.service or config.name
        encode = Encoder(name, (("meshtls.spiffe_id", str(config.spiffe_id)),))
        exporter = SpanExporter(keys, encode, rejected, clock)
        return cls(Tracer(Sampler(keys.sample), exporter.put, time.time_ns), exporter)

    def count(self, metrics: Metrics) -> None:
        """Have these metrics count its spans."""
        exporter, dropped = self.exporter, metrics.counter(families.SPANS_DROPPED)
        sent = metrics.counter(families.SPANS_SENT).labels()

        def refresh() -> None:
            sent.value = exporter.sent
            for reason, number in exporter.dropped.items():
                dropped.labels(reason).value = number

        metrics.before_scrape(refresh)


def check_tracing(config: SidecarConfig) -> None:
    """Raises ConfigError where a sidecar could not send its spans by this configuration."""
    SidecarTracing.of(config, SystemClock())
