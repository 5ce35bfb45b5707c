"""The pytest plugin: a CA, valid and invalid identities, and a Workload API, for tests of a service's mutual TLS.

It is active when meshtls is installed. A test uses the fixture ``mesh``::

    def test_only_web_reaches_the_database(mesh):
        database = my_service.make_context(mesh.source("db"))   # an ssl.SSLContext of meshtls.server_context
        assert mesh.handshake(mesh.source("web"), database).spiffe_id == mesh.id("web")
        with pytest.raises(meshtls.PeerError, match="not allowed"):
            mesh.handshake(mesh.source("batch"), database)

``mesh`` (a ``meshtls.pytest.Mesh``, for annotations) has no async methods and needs no event loop: it works in plain
and async tests, with any async plugin. Each test gets its own CA. The rest of meshtls is not imported before the first
test that uses the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from meshtls.pytest.mesh import Mesh

__all__ = ["Mesh", "mesh", "mesh_trust_domain"]


def __getattr__(name: str) -> object:
    # Imported late, so that a pytest run without the fixture does not wait for it.
    if name == "Mesh":
        from meshtls.pytest.mesh import Mesh

        return Mesh
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@pytest.fixture(scope="session")
def mesh_trust_domain() -> str:
    """The trust domain of ``mesh``; override it in a conftest if your policies name another one."""
    return "example.org"


@pytest.fixture
def mesh(mesh_trust_domain: str) -> Iterator[Mesh]:
    """A CA of this trust domain, with sources, and with Workload APIs that end with the test."""
    from meshtls.pytest.mesh import Mesh  # late, as in __getattr__

    with Mesh(mesh_trust_domain) as mesh:
        yield mesh
