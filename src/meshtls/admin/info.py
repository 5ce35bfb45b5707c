"""``/server_info``: what runs, since when, and with what."""

from __future__ import annotations

import os
import platform
import ssl
from importlib.metadata import version

from meshtls.admin.pages import Record
from meshtls.clock import Clock
from meshtls.svid.x509 import format_moment

__all__ = ["ProcessInfo"]


class ProcessInfo:
    """Made when the process begins to serve. ``kind`` is sidecar, agent or server."""

    def __init__(self, kind: str, clock: Clock) -> None:
        self._kind = kind
        self._clock = clock
        self._started = clock.now()
        self._began = clock.monotonic()

    def record(self, **more: object) -> Record:
        """The page, with what the kind of process has beside."""
        return {
            "kind": self._kind,
            **more,
            "version": version("meshtls"),
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
            "pid": os.getpid(),
            "now": format_moment(self._clock.now()),
            "started": format_moment(self._started),
            "uptime_seconds": int(self._clock.monotonic() - self._began),
        }
