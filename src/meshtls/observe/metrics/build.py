"""What each program says of itself, whatever it does: its versions, and whether it is ready."""

from __future__ import annotations

import platform
import ssl
from importlib.metadata import version

from meshtls.observe.metrics.declaring import Label, Merge, gauge, info
from meshtls.observe.metrics.values import Metrics

__all__ = ["BUILD", "READY", "tell_build"]

BUILD = info(
    "meshtls_build_info",
    "The versions that run.",
    Label("component"),
    Label("version"),
    Label("python"),
    Label("openssl"),
)
READY = gauge("meshtls_ready", "1 where /ready would say so, else 0.", merge=Merge.MIN)


def tell_build(metrics: Metrics, component: str) -> None:
    """Once for each program: reading our own version takes a millisecond.

    ``component`` is sidecar, server, agent or library.
    """
    metrics.info(BUILD).tell(component, version("meshtls"), platform.python_version(), ssl.OPENSSL_VERSION)
