"""SPIRE's server, for the listener where nodes attest, and the configuration of its server and agent.

The programs are those of MESHTLS_SPIRE_BIN, or of PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import Program, Side, Site
from bench.peers.found import said

__all__ = ["FAST", "Spire", "find_spire", "spire_agent_config", "spire_server_config"]

#: Of the server's reads of its store, and of the agent's requests to it, where a test can't wait for SPIRE's 5 s.
FAST = "500ms"
_SERVER = """
server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{directory}/server.sock"
    trust_domain = "{domain}"
    data_dir = "{directory}/server"
    log_level = "WARN"
{interval}}}
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
_AGENT = """
agent {{
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{directory}/agent.sock"
    trust_bundle_path = "{directory}/bundle.pem"
    trust_domain = "{domain}"
    data_dir = "{directory}/agent"
    log_level = "WARN"
{interval}}}
plugins {{
    KeyManager "memory" {{
        plugin_data {{}}
    }}
    NodeAttestor "join_token" {{
        plugin_data {{}}
    }}
    WorkloadAttestor "unix" {{
        plugin_data {{
            discover_workload_path = true
        }}
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


def spire_server_config(directory: Path, trust_domain: str, port: int, interval: str | None = FAST) -> str:
    """The configuration of a server with its files and socket in ``directory``.

    ``interval`` is a Go duration: how often it reads its entries from the store. None for SPIRE's default, 5 s.
    """
    setting = _experimental("cache_reload_interval", interval)
    return _SERVER.format(directory=directory, domain=trust_domain, port=port, interval=setting)


def spire_agent_config(directory: Path, trust_domain: str, port: int, interval: str | None = FAST) -> str:
    """The configuration of an agent of the server at ``port``; its socket and ``bundle.pem`` are in ``directory``.

    ``interval`` is a Go duration: how often it asks the server for its entries. None for SPIRE's default, 5 s.
    """
    setting = _experimental("sync_interval", interval)
    return _AGENT.format(directory=directory, domain=trust_domain, port=port, interval=setting)


def _experimental(key: str, interval: str | None) -> str:
    return "" if interval is None else f'    experimental {{\n        {key} = "{interval}"\n    }}\n'
