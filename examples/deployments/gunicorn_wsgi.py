"""gunicorn's configuration for WSGI.

gunicorn -c gunicorn_wsgi.py -b 127.0.0.1:8443 wsgi_app:app

A handshake occupies a thread for as long as the caller likes, so use this for callers of your own mesh; if strangers
can connect, put a sidecar in front, or serve with gunicorn_asgi.py.
"""

from __future__ import annotations

from typing import Any

import meshtls
from meshtls.tls.rotating import RotatingContext

workers = 2
worker_class = "gthread"
threads = 8
# gunicorn serves TLS if this names an existing file. It is never read: the context comes from the hook below.
certfile = __file__

_contexts: list[RotatingContext] = []


def post_worker_init(worker: Any) -> None:
    """Called in each worker before it serves: a worker without an identity ends, and gunicorn logs that."""
    source = meshtls.blocking(meshtls.X509Source()).enter()
    _contexts.append(meshtls.server_context(source, meshtls.authorize_member_of("example.org")))


def ssl_context(config: Any, default: Any) -> RotatingContext:
    """Called by gunicorn for each connection."""
    return _contexts[0]
