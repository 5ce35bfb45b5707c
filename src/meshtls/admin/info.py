"""``/server_info``: what runs, since when, and with what."""

from __future__ import annotations

import os
import platform
import ssl
from importlib.metadata import version

from meshtls.admin.pages import Record
from meshtls.clock import Clock
from meshtls.observe.process_name import ProcessName
from meshtls.svid.x509 import format_moment

__all__ = ["ProcessInfo"]


class ProcessInfo:
    """Made when the process begins to serve."""

    def __init__(self, process: ProcessName, clock: Clock) -> None:
        self._process = process
        self._clock = clock
        self._started = clock.now()
        self._began = clock.monotonic()

    def record(self, **more: object) -> Record:
        """The page, with what the kind of process has beside."""
        return {
            **self._process.record(),
            **more,
            "version": version("meshtls"),
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
            "pid": os.getpid(),
            "now": format_moment(self._clock.now()),
            "started": format_moment(self._started),
            "uptime_seconds": int(self._clock.monotonic() - self._began),
        }
