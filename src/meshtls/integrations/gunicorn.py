"""gunicorn with uvicorn's worker: ``worker_class = "meshtls.integrations.gunicorn.UvicornPeerWorker"``.

For WSGI use gunicorn's own workers: the application passes ``environ["gunicorn.socket"]`` to ``verified_peer``. Both
kinds get their context from the hook ``ssl_context`` in gunicorn's configuration file.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from uvicorn_worker import UvicornWorker

from meshtls.errors import ConfigError
from meshtls.tls.rotating import RotatingContext

__all__ = ["UvicornPeerWorker"]


class UvicornPeerWorker(UvicornWorker):  # type: ignore[misc]  # it is untyped
    """Serves with the context that the hook ``ssl_context`` returns, and puts each connection's peer into the scope.

    uvicorn-worker's own class does not call the hook. This class calls it once, before it is ready. If the hook raises,
    or returns anything but a ``server_context``, gunicorn ends. It never serves plaintext.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **UvicornWorker.CONFIG_KWARGS,
        "http": "meshtls.integrations.uvicorn:PeerProtocol",
    }

    def load_wsgi(self) -> None:
        """Called before the worker is ready. gunicorn ends if this fails; it restarts a worker that fails later."""
        super().load_wsgi()
        context = self.cfg.ssl_context(self.cfg, _no_default)
        if not isinstance(context, RotatingContext):
            _no_default(context)
        self.config.ssl_context_factory = lambda config, default: context


def _no_default(context: object = None) -> NoReturn:
    raise ConfigError(
        "UvicornPeerWorker: wanted a function ssl_context(config, default) in gunicorn's configuration that gives a"
        f" server_context, got {'none' if context is None else type(context).__name__}"
    )
