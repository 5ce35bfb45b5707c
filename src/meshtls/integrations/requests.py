"""requests over mutual TLS: ``session.mount("https://", MeshAdapter(context))``."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin, urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema

from meshtls.errors import ConfigError
from meshtls.tls.rotating import RotatingContext

__all__ = ["MeshAdapter"]


class MeshAdapter(HTTPAdapter):
    """Connects to https URLs with a ``client_context``, which verifies the server's SPIFFE ID instead of its host name.

    Verification can't be disabled: ``verify=False`` raises ConfigError, and so does ``cert``. A path in ``verify`` is
    ignored, since requests puts REQUESTS_CA_BUNDLE there; the context's source has the trust bundles.

    A redirect to a URL that is not https would leave the mesh, without verification. It raises requests'
    InvalidSchema, unless ``insecure_redirects`` is set.
    """

    def __init__(self, context: RotatingContext, *, insecure_redirects: bool = False, **settings: Any) -> None:
        self._insecure_redirects = insecure_redirects
        # urllib3 would match the host name against the certificate's DNS names, which an SVID need not have.
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

    def send(self, request: PreparedRequest, *args: Any, **settings: Any) -> Response:
        """As in requests; also raises InvalidSchema for a redirect out of the mesh."""
        response = super().send(request, *args, **settings)
        if response.is_redirect and not self._insecure_redirects:
            target = urljoin(str(request.url), response.headers["location"])
            if urlsplit(target).scheme != "https":
                response.close()
                raise InvalidSchema(
                    f"{request.url} redirects to {target}: wanted https, since other schemes are not verified;"
                    " to allow it, create the MeshAdapter with insecure_redirects=True"
                )
        return response

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Called by requests with the settings of one request."""
        if verify is False or cert:
            raise ConfigError(
                f"{'verify=False' if verify is False else 'cert'}: wanted neither; a meshtls context always verifies"
                " the server, and presents its source's own SVID"
            )
