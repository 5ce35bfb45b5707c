"""A path is judged in every form by which the app may route, whatever of it the app cuts off or decodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path as django_path
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from meshtls import authorize_any, client_context, server_context
from meshtls.integrations.asgi_policy import PolicyMiddleware
from meshtls.integrations.uvicorn import peer_config
from meshtls.policy.library import Policies
from meshtls.pytest.mesh import Mesh
from tests.integration.library.asgi_servers import SERVERS, answered
from tests.integration.library.test_asgi import running
from tests.integration.library.test_asgi_policy import loaded, policy
from tests.integration.sidecar.mesh import B

DENIED = (403, "access denied by policy\n")


def paths(action: str, *values: str) -> str:
    """A policy on paths."""
    return policy(f"{{action: {action}, rules: [{{to: [{{operation: {{paths: {list(values)}}}}}]}}]}}")


NO_ADMIN = paths("DENY", "/admin")


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode()


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.path_params.get('rest', '')} of {request.scope['path']}")


def starlette(*middleware: Middleware) -> Starlette:
    routes = [
        *(Route(f"/{name}", page) for name in ("admin", "other", "x")),
        *(Route(f"/{name}/{{rest:path}}", page) for name in ("private", "open")),
    ]
    return Starlette(routes=routes, middleware=middleware)


def fastapi(**keys: Any) -> FastAPI:
    made = FastAPI(**keys)
    made.add_api_route("/admin", lambda: "admin")
    made.add_api_route("/other", lambda: "other")
    return made


def django() -> Any:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
    return get_asgi_application()


def django_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.path_info)


urlpatterns = [django_path("admin", django_page), django_path("other", django_page)]


def judged(app: Any, policies: Policies) -> PolicyMiddleware:
    return PolicyMiddleware(app, policies, trust_forwarded_client_cert=True)


def inside(policies: Policies) -> Middleware:
    return Middleware(PolicyMiddleware, policies=policies, trust_forwarded_client_cert=True)


@pytest.fixture
def of(tmp_path: Path) -> Callable[[str], Policies]:
    return lambda text: loaded(tmp_path, text, spiffe_id=B)


class TestEncodedDots:
    @pytest.mark.parametrize("server", SERVERS)
    @pytest.mark.parametrize(
        ("text", "allowed"),
        [
            (paths("DENY", "/private", "/private/*"), []),
            (paths("DENY", "/hidden", "/hidden/*"), ["near", "encoded", "far"]),
            (paths("DENY", "/x"), []),
            (paths("ALLOW", "/x"), []),
            (paths("ALLOW", "/private/*"), []),
            (paths("ALLOW", "/x", "/private/*"), ["far"]),
            (paths("ALLOW", "/x", "/private*"), ["near", "encoded", "far"]),
        ],
    )
    async def test_a_path_is_judged_with_its_dot_segments_and_without(
        self, of: Callable[[str], Policies], server: str, text: str, allowed: list[str]
    ) -> None:
        sent = {
            "near": ("/private%2F..%2Fx", "../x of /private/../x"),
            "encoded": ("/private%2F%2E%2E%2Fx", "../x of /private/../x"),
            "far": ("/private/y%2F..%2F..%2Fx", "y/../../x of /private/y/../../x"),
        }
        async with SERVERS[server](judged(starlette(), of(text))) as address:
            for name, (path, body) in sent.items():
                assert await answered(address, get(path)) == ((200, body) if name in allowed else DENIED)


async def test_a_path_is_judged_with_its_dot_segments_over_tls(mesh: Mesh, tmp_path: Path) -> None:
    policies = loaded(tmp_path, paths("DENY", "/private", "/private/*"))
    wrapped = PolicyMiddleware(starlette(), policies)
    context = server_context(mesh.source("db"), authorize_any())
    web = client_context(mesh.source("web"), authorize_any())
    async with running(peer_config(wrapped, context, log_config=None)) as address:
        assert await answered(address, get("/private%2F..%2Fx"), ssl=web) == DENIED
        assert await answered(address, get("/open%2F..%2Fx"), ssl=web) == (200, "../x of /open/../x")


@pytest.mark.parametrize("app", [starlette, fastapi, django])
class TestRootPathOfTheServer:
    """uvicorn puts it before the path of a request, hypercorn wants it there."""

    def sent(self, server: str, path: str) -> bytes:
        return get(f"/api{path}" if server == "hypercorn" else path)

    @pytest.mark.parametrize("server", SERVERS)
    async def test_a_rule_for_the_path_without_it_denies(
        self, of: Callable[[str], Policies], server: str, app: Callable[[], Any]
    ) -> None:
        for text in (NO_ADMIN, paths("DENY", "/api/admin"), paths("DENY", "/adm*")):
            async with SERVERS[server](judged(app(), of(text)), "/api") as address:
                assert await answered(address, self.sent(server, "/admin")) == DENIED
                assert await answered(address, self.sent(server, "/%61dmin")) == DENIED
                assert (await answered(address, self.sent(server, "/other")))[0] == 200

    @pytest.mark.parametrize("server", SERVERS)
    async def test_an_allow_rule_has_to_match_the_path_with_the_root_and_without_it(
        self, of: Callable[[str], Policies], server: str, app: Callable[[], Any]
    ) -> None:
        for text, status in (
            (paths("ALLOW", "/other"), 403),
            (paths("ALLOW", "/api/*"), 403),
            (paths("ALLOW", "/other", "/api/other"), 200),
        ):
            async with SERVERS[server](judged(app(), of(text)), "/api") as address:
                assert (await answered(address, self.sent(server, "/other")))[0] == status


class TestRootPathOfTheApp:
    @pytest.mark.parametrize("server", SERVERS)
    @pytest.mark.parametrize("outside", [True, False], ids=["around the app", "in the app"])
    @pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
    async def test_fastapi_s_own_is_cut_off(self, of: Callable[[str], Policies], server: str, outside: bool) -> None:
        app: Any = fastapi(root_path="/api")
        if outside:
            app = judged(app, of(NO_ADMIN))
        else:
            app.add_middleware(PolicyMiddleware, policies=of(NO_ADMIN), trust_forwarded_client_cert=True)
        async with SERVERS[server](app) as address:
            for path in ("/admin", "/api/admin"):
                assert await answered(address, get(path)) == DENIED
            for path in ("/other", "/api/other"):
                assert (await answered(address, get(path)))[0] == 200


class TestMounts:
    @pytest.mark.parametrize("denied", ["/sub/admin", "/admin"])
    async def test_a_middleware_in_a_mounted_app_judges_the_path_as_sent_and_as_mounted(
        self, of: Callable[[str], Policies], denied: str
    ) -> None:
        for text, status in ((paths("DENY", denied), 403), (paths("DENY", f"{denied}s"), 200)):
            app = Starlette(routes=[Mount("/sub", starlette(inside(of(text))))])
            async with SERVERS["uvicorn with httptools"](app) as address:
                assert (await answered(address, get("/sub/admin")))[0] == status

    async def test_a_mount_below_the_server_s_root_path_is_judged_as_sent_too(
        self, of: Callable[[str], Policies]
    ) -> None:
        for denied, status in (("/sub/admin", 403), ("/api/sub/admin", 403), ("/admin", 403), ("/api/admin", 200)):
            app = Starlette(routes=[Mount("/sub", starlette(inside(of(paths("DENY", denied)))))])
            async with SERVERS["uvicorn with httptools"](app, "/api") as address:
                assert (await answered(address, get("/sub/admin")))[0] == status

    async def test_a_middleware_around_mounts_judges_the_path_as_sent_as_a_sidecar_does(
        self, of: Callable[[str], Policies]
    ) -> None:
        for denied, status in (("/sub/admin", 403), ("/admin", 200)):
            app = judged(Starlette(routes=[Mount("/sub", starlette())]), of(paths("DENY", denied)))
            async with SERVERS["uvicorn with httptools"](app) as address:
                assert (await answered(address, get("/sub/admin")))[0] == status


async def test_a_dry_run_tells_what_is_denied_in_any_form(
    of: Callable[[str], Policies], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "meshtls.policy")
    dry = NO_ADMIN.replace("annotations: {}", "annotations: {istio.io/dry-run: 'true'}")
    async with SERVERS["uvicorn with httptools"](judged(starlette(), of(dry)), "/api") as address:
        for path in ("/admin", "/other"):
            assert (await answered(address, get(path)))[0] == 200
    assert [one.partition(" by ")[0] for one in caplog.messages if one.startswith("dry run")] == [
        "dry run: denied: denied",
        "dry run: allowed: allowed: no DENY rule matches, and no ALLOW policy applies to this workload",
    ]
