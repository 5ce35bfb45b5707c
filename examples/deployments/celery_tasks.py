"""Celery: tasks of a prefork worker call a service over mutual TLS, with one source for all its processes.

CALL=https://127.0.0.1:8443/ celery -A celery_tasks worker

The source is entered in the worker's main process, before it forks: a worker without an identity doesn't start. Each
forked process then follows the Workload API in a thread of its own, so tasks present the newest SVID.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import requests
from celery import Celery
from celery.signals import worker_init

import meshtls
from meshtls.integrations.requests import MeshAdapter

app = Celery("celery_tasks", broker="amqp://", backend="rpc://")


@cache
def source() -> meshtls.X509Source:
    """The source, not created at import: a program that sends tasks needs no identity."""
    return meshtls.blocking(meshtls.X509Source()).enter()


@worker_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def enter_source(**_: Any) -> None:
    try:
        source()
    except meshtls.MeshtlsError as error:  # Celery would log an exception of this handler and continue
        raise SystemExit(f"no identity: {error}") from error


@cache
def session() -> requests.Session:
    """The session of one forked process: connections aren't shared."""
    made = requests.Session()
    context = meshtls.client_context(source(), meshtls.authorize_id("spiffe://example.org/server"))
    made.mount("https://", MeshAdapter(context))
    return made


@app.task(name="fetch")  # type: ignore[untyped-decorator]
def fetch() -> str:
    response = session().get(os.environ["CALL"], timeout=10)
    response.raise_for_status()
    return f"process {os.getpid()} of {os.getppid()}: {response.text}"
