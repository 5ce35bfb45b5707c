"""meshtls as a user runs it: a CA with its Workload API, and ``meshtls sidecar run`` on each side."""

from __future__ import annotations

import json
import os
import platform
import ssl
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench.peers.base import CAPACITY, Program, Setup, Side, Site

__all__ = ["Meshtls", "MeshtlsWithMetrics"]

_TRUST_DOMAIN = "bench.test"
# The CA identifies a caller by its uid, and both sides run as the user that measures: so they share one identity.
_ID = f"spiffe://{_TRUST_DOMAIN}/pair"


class Meshtls:
    """Its leaves come from its own CA, with the shape of the other peers', since the same code makes those."""

    name = "meshtls"
    #: Whether both sidecars count metrics.
    metrics = False

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        library = " ".join(ssl.OPENSSL_VERSION.split()[:2])
        return f"meshtls/{version('meshtls')} Python {platform.python_version()} {library}"

    def supports(self, setup: Setup) -> bool:
        return True

    def programs(self, side: Side, setup: Setup, site: Site) -> Sequence[Program]:
        socket = site.workdir / "ca.sock"
        config = {
            "name": side.value,
            "spiffe_id": _ID,
            "identity": {"workload_api": f"unix://{socket}"},
            "limits": {"connections": CAPACITY},
            **_door(side, setup, site),
            **({"metrics": {"listen": "127.0.0.1:0"}} if self.metrics else {}),
        }
        # JSON is YAML too.
        sidecar = site.write(side, ".yaml", json.dumps(config))
        run = Program(_argv("sidecar", "run", "--config", str(sidecar)))
        return [run] if side is Side.CLIENT else [_ca(site, socket), run]

    def mtls_programs(self, site: Site) -> Sequence[Program]:
        return self.programs(Side.SERVER, Setup.FULL, site)


class MeshtlsWithMetrics(Meshtls):
    """The same, with metrics."""

    name = "meshtls + metrics"
    metrics = True


def _door(side: Side, setup: Setup, site: Site) -> dict[str, object]:
    listen, target = f"127.0.0.1:{site.listen(side)}", f"127.0.0.1:{site.target(side)}"
    options = {"tunnel": setup is Setup.TUNNEL, "resumption": setup is Setup.RESUMED, "key_exchange": "X25519"}
    if side is Side.CLIENT:
        return {"outbound": [{"listen": listen, "to": target, "peer": _ID, **options}]}
    return {"inbound": [{"listen": listen, "app": target, "allow": [_ID], **options}]}


def _ca(site: Site, socket: Path) -> Program:
    config = {
        "trust_domain": _TRUST_DOMAIN,
        "socket": str(socket),
        "identities": [{"uid": os.getuid(), "spiffe_id": _ID}],
    }
    path = site.workdir / "ca.yaml"
    path.write_text(json.dumps(config))
    return Program(_argv("ca", "serve", "--config", str(path)), counted=False, socket=socket)


def _argv(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "meshtls", *arguments]
