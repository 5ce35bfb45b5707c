"""The versions that a program runs with, as a metric: the same for a sidecar and for a service."""

from __future__ import annotations

import platform
import ssl
from importlib.metadata import version

from meshtls.observe.metrics.declaring import Label, info
from meshtls.observe.metrics.values import Metrics

__all__ = ["BUILD", "tell_build"]

BUILD = info(
    "meshtls_build_info",
    "The versions that run.",
    Label("component"),
    Label("version"),
    Label("python"),
    Label("openssl"),
)


def tell_build(metrics: Metrics, component: str) -> None:
    """Once for each program: reading our own version takes a millisecond. ``component`` is sidecar or library."""
    metrics.info(BUILD).tell(component, version("meshtls"), platform.python_version(), ssl.OPENSSL_VERSION)
