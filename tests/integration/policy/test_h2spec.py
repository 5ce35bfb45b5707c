"""h2spec, a conformance test of HTTP/2 with hostile frames, against an inbound listener that reads HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.peers.go_spiffe import GoModulesError, build_go_program, go_missing
from meshtls.sidecar.settings import Protocol
from tests.integration.policy.web_app import web_app
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import side_a
from tests.support.require import require

MODULE = Path(__file__).resolve().parents[2] / "interop" / "h2spec"
ALLOW_ALL = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: default}
spec: {rules: [{}]}
"""
#: What h2spec wants and this listener does not do, with the reason.
EXPLAINED = {
    "Sends invalid connection preface": "it is taken for HTTP/1.1, and answered with 400 before the close",
    "Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE": (
        "h2spec 2.2.1 sends 16 KiB, whatever SETTINGS_MAX_FRAME_SIZE it got; here that is 256 KiB"
    ),
    "Sends HEADERS frame that depend on itself": "RFC 9113, section 5.3.2, deprecates dependencies: they are ignored",
    "Sends PRIORITY frame that depend on itself": "as above",
}
_SECONDS = 300


@pytest.fixture(scope="module")
def h2spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = go_missing()
    require("go", missing is None, f"{missing}, for h2spec")
    try:
        return build_go_program(tmp_path_factory.mktemp("h2spec"), MODULE, "github.com/summerwind/h2spec/cmd/h2spec")
    except GoModulesError as error:
        require("go", False, str(error))
        raise


@pytest.mark.timeout(900)  # a first build of h2spec may take minutes
async def test_h2spec_finds_nothing_but_what_is_explained(h2spec: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    async with (
        web_app() as app,
        governed(app.address, ALLOW_ALL, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        asyncio.timeout(_SECONDS),
    ):
        options = ("-h", a.outbound.host, "-p", str(a.outbound.port), "-o", "10", "-j", str(report))
        process = await asyncio.create_subprocess_exec(h2spec, *options, stdout=asyncio.subprocess.DEVNULL)
        await process.wait()
    cases = ElementTree.parse(report).findall(".//testcase")  # noqa: S314  # h2spec's own report
    failed = [case.get("classname", "") for case in cases if case.findall("failure") or case.findall("error")]
    assert len(cases) == 145
    assert [case for case in cases if case.findall("skipped")] == []
    assert sorted(failed) == sorted(EXPLAINED)
