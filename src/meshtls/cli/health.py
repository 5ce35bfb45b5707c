"""The answer of every healthcheck."""

from __future__ import annotations

from meshtls.cli.output import Output

__all__ = ["tell_health"]


def tell_health(out: Output, awaited: str | None) -> int:
    """Say ready, or what is awaited; the exit code."""
    text = f"not ready: {awaited}" if awaited else "ready"
    out.record({"ready": not awaited, "waiting_for": awaited or ""}, text)
    return 1 if awaited else 0
