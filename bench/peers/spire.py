"""A SPIRE server, for the listener where nodes attest. The programs are those of MESHTLS_SPIRE_BIN, or of PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import Program, Side, Site
from bench.peers.found import said

__all__ = ["Spire", "find_spire", "spire_server_config"]

_CONFIG = """
server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{directory}/server.sock"
    trust_domain = "{domain}"
    data_dir = "{directory}/server"
    log_level = "WARN"
    experimental {{
        cache_reload_interval = "500ms"
    }}
}}
plugins {{
    DataStore "sql" {{
        plugin_data {{
            database_type = "sqlite3"
            connection_string = "{directory}/server.sqlite3"
        }}
    }}
    KeyManager "memory" {{
        plugin_data {{}}
    }}
    NodeAttestor "join_token" {{
        plugin_data {{}}
    }}
}}
"""


class Spire:
    """The server alone, with SQLite and join tokens."""

    name = "spire"

    def missing(self) -> str | None:
        return None if find_spire("spire-server") else "no spire-server here; set MESHTLS_SPIRE_BIN to its directory"

    def version(self) -> str:
        return f"spire/{said([self._binary(), '--version']).strip()}"

    def token_programs(self, site: Site) -> Sequence[Program]:
        config = spire_server_config(site.workdir, "bench.test", site.listen(Side.SERVER))
        return [Program([self._binary(), "run", "-config", str(site.write(Side.SERVER, ".conf", config))])]

    def _binary(self) -> str:
        return find_spire("spire-server") or "spire-server"


def find_spire(program: str) -> str | None:
    """The path of ``spire-server`` or ``spire-agent``."""
    return shutil.which(program, path=os.environ.get("MESHTLS_SPIRE_BIN") or os.environ.get("PATH"))


def spire_server_config(directory: Path, trust_domain: str, port: int) -> str:
    """The configuration of a server with its files and socket in ``directory``."""
    return _CONFIG.format(directory=directory, domain=trust_domain, port=port)
