"""The plugin in another project's test run: a separate pytest process with only that project's test file."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

SERVICE = """
    import meshtls

    def make_context(source):
        return meshtls.server_context(source, meshtls.authorize_id("spiffe://example.org/web"))
"""
CARELESS_SERVICE = """
    import meshtls

    def make_context(source):
        return meshtls.server_context(source, meshtls.authorize_any())
"""
THREE_LINES = """
    import meshtls
    import my_service
    import pytest

    def test_web_is_admitted_and_other_services_are_refused(mesh):
        service = my_service.make_context(mesh.source("db"))
        assert mesh.handshake(mesh.source("web"), service).spiffe_id == mesh.id("web")
        with pytest.raises(meshtls.PeerError, match="not allowed"):
            mesh.handshake(mesh.source("batch"), service)
"""
BOTH_KINDS = """
    import os
    import subprocess
    import sys

    import pytest

    import meshtls

    PROGRAM = "\\n".join([
        "import asyncio, meshtls",
        "async def main():",
        "    async with meshtls.X509Source() as source:",
        "        print(source.snapshot().svid.serial)",
        "asyncio.run(main())",
    ])

    def test_a_plain_test(mesh):
        api = mesh.workload_api("web")
        said = subprocess.check_output([sys.executable, "-c", PROGRAM], env=os.environ | api.environment, text=True)
        assert said.strip() == api.serial

    @pytest.mark.asyncio
    async def test_an_async_test(mesh):
        async with meshtls.X509Source(mesh.workload_api("web").address) as source:
            assert source.snapshot().svid.spiffe_id == mesh.id("web")
"""


@pytest.fixture(autouse=True)
def strict(pytester: pytest.Pytester) -> None:
    """Warnings, such as that of an unclosed socket, are errors in that run too."""
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")


def test_a_three_line_test_passes_for_a_careful_service(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(my_service=SERVICE, test_it=THREE_LINES)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_same_test_fails_for_a_service_that_lets_anybody_in(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(my_service=CARELESS_SERVICE, test_it=THREE_LINES)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*DID NOT RAISE*PeerError*"])


def test_the_fixture_serves_plain_and_async_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BOTH_KINDS)
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_the_trust_domain_can_be_the_projects_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
        import pytest

        @pytest.fixture(scope="session")
        def mesh_trust_domain():
            return "prod.acme.test"
    """)
    pytester.makepyfile("""
        def test_it(mesh):
            assert str(mesh.source("web").spiffe_id) == "spiffe://prod.acme.test/web"
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_projects_own_fixture_of_the_same_name_takes_precedence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def mesh():
            return "ours"

        def test_it(mesh):
            assert mesh == "ours"
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_run_without_the_fixture_imports_only_the_meshtls_package() -> None:
    program = (
        "import sys, meshtls; old = set(sys.modules); import meshtls.pytest; print(*sorted(set(sys.modules) - old))"
    )
    new = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in new if name.startswith("meshtls")] == ["meshtls.pytest"]
