"""requests and urllib3: a program without an event loop; the source follows its Workload API in a thread.

python examples/requests_client.py https://127.0.0.1:8443/ spiffe://example.org/server

By default both compare a certificate's DNS names with the URL's host. An SVID's name is its SPIFFE ID, which the
authorizer checks, so that comparison is turned off: by ``MeshAdapter`` for requests, by ``assert_hostname=False`` for
urllib3. A setting that would turn verification off raises an error.
"""

from __future__ import annotations

import ssl
import sys

import requests
import urllib3

import meshtls
from meshtls.integrations.blocking import blocking
from meshtls.integrations.requests import MeshAdapter
from meshtls.tls.rotating import RotatingContext


def fetch(context: RotatingContext, url: str) -> str:
    with requests.Session() as session:
        session.mount("https://", MeshAdapter(context))
        response = session.get(url, timeout=10)
        response.raise_for_status()
        return response.text


def fetch_urllib3(context: ssl.SSLContext, url: str) -> str:
    with urllib3.PoolManager(ssl_context=context, assert_hostname=False, retries=False) as pool:
        return pool.request("GET", url, timeout=10).data.decode()


def main(url: str, server: str) -> None:
    with blocking(meshtls.X509Source()) as source:
        context = meshtls.client_context(source, meshtls.authorize_id(server))
        print(fetch(context, url))


if __name__ == "__main__":
    main(*sys.argv[1:])
