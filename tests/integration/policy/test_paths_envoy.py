"""A real Envoy, as Istio configures it for each pathNormalization, passes on the paths that meshtls makes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from meshtls.errors import RequestError
from meshtls.policy.istio.model import Normalization
from meshtls.policy.istio.paths import normalize
from meshtls.wire.http1.request import is_target
from tests.support.envoy import started_envoy
from tests.support.envoy_http import EXTENSIONS
from tests.unit.policy.istio.test_paths import NORMALIZED

#: What Istio sets of Envoy's HttpConnectionManager.
SETTINGS: dict[Normalization, dict[str, Any]] = {
    Normalization.NONE: {},
    Normalization.BASE: {"normalize_path": True},
    Normalization.MERGE_SLASHES: {"normalize_path": True, "merge_slashes": True},
    Normalization.DECODE_AND_MERGE_SLASHES: {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    },
}
#: What a path is made of: what one of the steps looks for, in and out of its usual place.
PIECES = (
    *(
        "/",
        "/",
        "//",
        "/.",
        "/..",
        "/./",
        "/../",
        ".",
        "..",
        "%2e",
        "%2E",
        "/%2e%2e/",
        "\\",
        "%5c",
        "%5C",
        "%2f",
        "%2F",
    ),
    *(
        "a",
        "b",
        "%61",
        "%41",
        "%7e",
        "~",
        "%25",
        "%",
        "%%",
        "%3",
        "%30",
        "%zz",
        "%c3%a9",
        "%20",
        "%3f",
        "%3B",
        ";x=1",
        "/..;x/",
        "/.%2e;",
    ),
    *(
        ":",
        "@",
        "!$&'()*+,",
        "=",
        "[",
        "]",
        "{",
        "}",
        "|",
        "^",
        "`",
        '"',
        "<",
        ">",
        "%7F",
        "-",
        "_",
        "?",
        "?/../b",
        "%01",
    ),
)
COUNT = 300


def paths() -> list[str]:
    chosen = random.Random(20)  # noqa: S311
    made = ("/" + "".join(chosen.choices(PIECES, k=chosen.randint(1, 8))) for _ in range(COUNT * 2))
    # Others than Latin-1 can't be sent.
    table = (one for one in NORMALIZED if one.startswith("/") and max(map(ord, one)) < 256)
    return list(dict.fromkeys((*table, *made)))


def ours(path: str, how: Normalization) -> str | int:
    """The path that the app gets, or the status of a refusal."""
    if not is_target(path):
        return 400
    try:
        return normalize(path, how)
    except RequestError:
        return 400


def difference(path: str, own: str | int, envoys: str | int, how: Normalization) -> str | None:
    """In what meshtls is stricter than Envoy, by name; None for a difference that has none."""
    if not isinstance(envoys, str) or how is Normalization.NONE:
        return None
    before_query = envoys.partition("?")[0]
    if before_query == "//" and own == envoys[1:]:
        return "slashes alone are merged to one, where Envoy leaves two"
    if _has_dots(_decoded(path), parameters=True) and isinstance(own, str) and not _has_dots(own.partition("?")[0]):
        return "dot segments that are encoded or beside a backslash lose their parameters, too"
    return None


def _decoded(path: str) -> str:
    found = path.partition("?")[0].lower()
    for text, plain in (("%2e", "."), ("%2f", "/"), ("%5c", "/"), ("\\", "/")):
        found = found.replace(text, plain)
    return found


def _has_dots(path: str, *, parameters: bool = False) -> bool:
    names = (one.partition(";") for one in path.split("/"))
    return any(name in (".", "..") and (mark or not parameters) for name, mark, _ in names)


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """An app that answers with the target of each request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1]
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(target), target))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def theirs(port: int, path: str) -> str | int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET %s HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n" % path.encode("latin-1"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = int(head.split(b" ", 2)[1])
    return body.decode("latin-1") if status == 200 else status


def bootstrap(app: int) -> dict[str, Any]:
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": address(0)},
        "static_resources": {
            "listeners": [listener(how) for how in Normalization],
            "clusters": [
                {
                    "name": "app",
                    "type": "STATIC",
                    "connect_timeout": "20s",
                    "load_assignment": {
                        "cluster_name": "app",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(app)}}]}],
                    },
                }
            ],
        },
    }


def listener(how: Normalization) -> dict[str, Any]:
    router = {"name": "router", "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"}}
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": how.value,
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        **SETTINGS[how],
    }
    filters = [{"name": "http", "typed_config": manager}]
    return {"name": how.value, "address": address(0), "filter_chains": [{"filters": filters}]}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


async def test_item_20_envoy_passes_on_the_same_paths(tmp_path: Path) -> None:
    found: dict[tuple[str, str], tuple[str | int, str | int]] = {}
    named: set[str] = set()
    refused = same = 0
    async with echo() as app, started_envoy(tmp_path, bootstrap(app)) as envoy:
        for how in Normalization:
            port = await envoy.port(how.value)
            for path in paths():
                own, envoys = ours(path, how), await theirs(port, path)
                if own == envoys:
                    refused, same = refused + (own == 400), same + 1
                elif name := difference(path, own, envoys, how):
                    named.add(name)
                else:
                    found[how.value, path] = own, envoys
    assert found == {}
    assert len(paths()) >= COUNT
    assert same > COUNT
    assert refused
    assert len(named) == 2
