"""requests over mutual TLS: ``session.mount("https://", MeshAdapter(context))``."""

from __future__ import annotations

from typing import Any

from requests import PreparedRequest
from requests.adapters import HTTPAdapter

from meshtls.errors import ConfigError
from meshtls.tls.rotating import RotatingContext

__all__ = ["MeshAdapter"]


class MeshAdapter(HTTPAdapter):
    """Talks to https URLs with a ``client_context``; the server is judged by its SPIFFE ID, not by its host name.

    ``verify`` can't turn that off: False raises ConfigError, and so does ``cert``. A path in ``verify`` has no effect,
    since requests puts REQUESTS_CA_BUNDLE there: who is trusted comes from the context's source.
    """

    def __init__(self, context: RotatingContext, **settings: Any) -> None:
        # urllib3 would compare the host name with the certificate's DNS names; an SVID needs none.
        self._tls: dict[str, Any] = {"ssl_context": context, "assert_hostname": False, "cert_reqs": "CERT_REQUIRED"}
        super().__init__(**settings)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **settings: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **settings, **self._tls)

    def proxy_manager_for(self, proxy: Any, **settings: Any) -> Any:
        return super().proxy_manager_for(proxy, **settings, **self._tls)

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        host, _ = super().build_connection_pool_key_attributes(request, True)
        return host, dict(self._tls)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """What requests calls with the settings of one request."""
        if verify is False or cert:
            raise ConfigError(
                f"{'verify=False' if verify is False else 'cert'}: wanted neither; a meshtls context always verifies"
                " the server, and presents its source's own SVID"
            )
