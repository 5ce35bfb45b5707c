"""How a mesh in one process is asked: an admin socket for each sidecar, in a temporary directory; and its dashboard."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from msgspec.structs import replace

from meshtls.address import Address
from meshtls.admin.asking import Interface
from meshtls.admin.keys import AdminKeys
from meshtls.sidecar.settings import SidecarConfig

__all__ = ["Shown"]

_ANY_PORT = Address("127.0.0.1", 0)
_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Shown:
    """``sidecars`` are to be run: each answers at one of ``interfaces``."""

    sidecars: tuple[SidecarConfig, ...]
    interfaces: tuple[Interface, ...]

    @classmethod
    @contextmanager
    def beside(cls, configs: Sequence[SidecarConfig]) -> Iterator[Shown]:
        """A sidecar whose file says where it answers, answers there."""
        with tempfile.TemporaryDirectory(prefix="meshtls-") as directory:
            sidecars = []
            for place, one in enumerate(configs):
                keys = one.admin or AdminKeys()
                socket = keys.socket or Path(directory) / f"{place}.sock"
                sidecars.append(replace(one, admin=replace(keys, socket=socket)))
            places = [one.admin.socket for one in sidecars if one.admin is not None and one.admin.socket is not None]
            yield cls(tuple(sidecars), tuple(map(Interface, places)))

    @property
    def has_dashboard(self) -> bool:
        """Whether its extra is installed."""
        return find_spec("starlette") is not None and find_spec("uvicorn") is not None

    def serving(self) -> AbstractAsyncContextManager[Address]:
        """Serve while the body runs; gives the address. Only now is anything of the extra imported."""
        from meshtls.dashboard.collect import Collector
        from meshtls.dashboard.serving import serving_dashboard

        return serving_dashboard(Collector(self.interfaces, interval=_SECONDS), _ANY_PORT)
