"""gunicorn's configuration for WSGI.

gunicorn -c gunicorn_wsgi.py -b 127.0.0.1:8443 wsgi_app:app

A handshake occupies a thread for as long as the caller likes, so this is for callers of your own mesh; where strangers
can connect, put a sidecar in front, or serve with gunicorn_asgi.py.
"""

from __future__ import annotations

from typing import Any

import meshtls
from meshtls.tls.rotating import RotatingContext

workers = 2
worker_class = "gthread"
threads = 8
# gunicorn serves TLS where this names a file that exists. It is never read: the context comes from the hook below.
certfile = __file__

_contexts: list[RotatingContext] = []


def post_worker_init(worker: Any) -> None:
    """In each worker before it serves: one without an identity ends, and gunicorn says so."""
    source = meshtls.blocking(meshtls.X509Source()).enter()
    _contexts.append(meshtls.server_context(source, meshtls.authorize_member_of("example.org")))


def ssl_context(config: Any, default: Any) -> RotatingContext:
    """gunicorn asks for each connection."""
    return _contexts[0]
