"""A WSGI application: gunicorn provides the connection, and the connection has its peer (see gunicorn_wsgi.py)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from meshtls import RequestError, SpiffeId
from meshtls.integrations.peers import verified_peer

CLIENT = SpiffeId.parse("spiffe://example.org/client")


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    try:
        peer = verified_peer(environ["gunicorn.socket"])
    except RequestError:  # plaintext, say, where the configuration has no TLS
        peer = None
    if peer is None or peer.spiffe_id != CLIENT:
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"forbidden\n"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {peer.spiffe_id} from process {os.getpid()}".encode()]
