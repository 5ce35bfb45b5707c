"""Django, a project in one file: the middleware takes the peer from the connection, and views name their callers.

gunicorn -c gunicorn_wsgi.py -b 127.0.0.1:8443 django_app:wsgi
gunicorn -c gunicorn_asgi.py -b 127.0.0.1:8443 django_app:asgi
"""

from __future__ import annotations

import os
import secrets
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from meshtls.integrations.django import require

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["meshtls.integrations.django.peer_middleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
)


def anyone(request: Any) -> HttpResponse:
    """For every peer that the server's context authorizes."""
    return HttpResponse(f"hello {request.spiffe_peer.spiffe_id} from process {os.getpid()}")


@require("spiffe://example.org/client")
def client_only(request: Any) -> HttpResponse:
    return anyone(request)


urlpatterns = [path("", client_only), path("anyone", anyone)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
