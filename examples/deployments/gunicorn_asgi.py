"""gunicorn's configuration for ASGI, with uvicorn in each worker.

gunicorn -c gunicorn_asgi.py -b 127.0.0.1:8443 fastapi_app:app
"""

from __future__ import annotations

from typing import Any

import meshtls
from meshtls.tls.rotating import RotatingContext

workers = 2
worker_class = "meshtls.integrations.gunicorn.UvicornPeerWorker"


def ssl_context(config: Any, default: Any) -> RotatingContext:
    """Called in each worker, once, when it starts."""
    source = meshtls.blocking(meshtls.X509Source()).enter()
    return meshtls.server_context(source, meshtls.authorize_member_of("example.org"))
