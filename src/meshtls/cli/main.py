"""``meshtls``: the group of all verbs, and the handling of errors: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

import click

from meshtls.cli.output import Output, tell, wants_json
from meshtls.cli.verbs import VerbGroup
from meshtls.errors import ConfigError, MeshtlsError
from meshtls.logs import LineFormatter, traceback_text
from meshtls.printable import printable

__all__ = ["cli", "main"]

_CONFIG, _FAILED, _INTERRUPTED = 2, 1, 130
#: The modules that extras bring, and which.
_EXTRAS = {
    **dict.fromkeys(("aiosqlite", "alembic", "asyncpg", "sqlalchemy"), "server"),
    **dict.fromkeys(("starlette", "uvicorn"), "dashboard"),
}
#: Each verb with its module and its summary. The summary is here so that the list of verbs imports none of them.
_VERBS = {
    "up": ("demo.up", "Start a whole mesh in one process, and show it at work."),
    "server": ("server", "The CA server: registers workloads, attests nodes, signs."),
    "agent": ("agent", "A node's agent: Workload API and Envoy's SDS."),
    "sidecar": ("sidecar", "Plaintext to its app, mutual TLS to its peers."),
    "entry": ("entry", "Registration entries: which workloads get which identity."),
    "token": ("agents", "Join tokens: each attests one node, once."),
    "agents": ("agents", "The attested nodes."),
    "authority": ("authority", "What signs: prepare, activate, taint and revoke authorities."),
    "revoke": ("revoke", "Have SVIDs refused everywhere, now."),
    "readmit": ("revoke", "Issue for a revoked identity again."),
    "revoked": ("revoke", "List what is revoked."),
    "bundle": ("bundle", "Trust bundles: the server's own and federated ones."),
    "federation": ("federation", "Trust domains whose bundles the server fetches."),
    "x509": ("mint", "X509-SVIDs without an agent, and certificates in words."),
    "jwt": ("mint", "JWT-SVIDs without an agent."),
    "fetch": ("fetch", "Fetch this process's SVIDs, tokens and bundles once."),
    "watch": ("watch", "Follow the X509-SVIDs of this process."),
    "validate-jwt": ("fetch", "Have the Workload API validate a token."),
    "admin": ("admin.page", "Ask a running sidecar, agent or server what it does."),
    "tap": ("admin.tap", "Follow connections and requests of running sidecars."),
    "top": ("admin.tap", "Who talks to whom now, most frequent first."),
    "graph": ("admin.graph", "Print who talks to whom: text, DOT or Mermaid."),
    "observe": ("observe", "Alert rules for Prometheus, and a dashboard for Grafana."),
    "dashboard": ("dashboard", "Show the mesh in a browser."),
    "policy": ("policy.group", "Check, explain, test, replay and suggest policies."),
    "check": ("check.command", "Check this machine, and what runs on it; say what to do."),
    "explain": ("explain", "Which entries match a process; why a connection ended."),
    "tls-server": ("tls_pair", "Greet the clients that are allowed."),
    "tls-client": ("tls_pair", "Connect once, and print the server's identity."),
    "wire": ("wire", "Build, parse and explain packets byte by byte."),
    "capture": ("capture.group", "What is on the wire: capture it, read it, decrypt it."),
    "log": ("log", "The transparency log: everything that was issued."),
    "audit": ("audit", "The audit trail: who did what to the servers."),
    "ca": ("ca", "A CA and its Workload API for one machine's users."),
    "app": ("demo.app", "A small HTTP app to put behind a sidecar."),
    "node": ("node", "Answer JSON messages with real handshakes."),
    "config": ("config", "The keys of the configuration files."),
    "completion": ("about", "Print the completion script of bash, zsh or fish."),
    "version": ("about", "Print the versions of meshtls, Python and OpenSSL."),
}


@click.group(
    cls=VerbGroup, package="meshtls.cli", verbs=_VERBS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="meshtls", prog_name="meshtls")
def cli() -> None:
    """A SPIFFE service mesh: a CA, short-lived identities, and sidecars with mutual TLS."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0 success, 1 failure, 2 an error in the configuration or the command line."""
    if arguments is None:  # meshtls is the program of this process
        # Escape also what Python itself prints to standard error: tracebacks, and logs of a verb that configures none.
        sys.excepthook = lambda kind, error, where: tell(*traceback_text(error).split("\n"), err=True)
        threading.excepthook = lambda thread: tell(*traceback_text(thread.exc_value).split("\n"), err=True)
        if logging.lastResort is not None:
            logging.lastResort.setFormatter(LineFormatter())
        # Linux does not deliver a signal without a handler to the first process of a container.
        if os.getpid() == 1:
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    out = Output(as_json=wants_json(words))
    try:
        return cli.main(words, prog_name="meshtls", standalone_mode=False) or 0
    except click.ClickException as error:
        if out.as_json:
            out.error(type(error).__name__, _message(error), error.exit_code)
        else:
            tell(*_usage_text(error).split("\n"), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone. Without this, Python would fail once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except (MeshtlsError, BaseExceptionGroup) as error:
        leaves = list(_leaves(error))
        ours = [leaf for leaf in leaves if isinstance(leaf, MeshtlsError)]
        if len(ours) < len(leaves):
            raise
        code = _CONFIG if any(isinstance(leaf, ConfigError) for leaf in ours) else _FAILED
        for leaf in ours:
            out.error(type(leaf).__name__, str(leaf), code, leaf.problems if isinstance(leaf, ConfigError) else ())
        return code
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        advice = f"{error.name} is not installed; this verb needs pip install 'meshtls[{extra}]'"
        out.error("ConfigError", advice, _CONFIG)
        return _CONFIG


def _usage_text(error: click.ClickException) -> str:
    buffer, message = io.StringIO(), error.format_message()
    error.show(buffer)
    text = buffer.getvalue().rstrip("\n")
    # The help has lines of its own. Every other message is a sentence that quotes the command line.
    is_help = isinstance(error, click.UsageError) and error.ctx is not None and message == error.ctx.get_help()
    return text if is_help else text.replace(message, printable(_message(error)))


def _message(error: click.ClickException) -> str:
    message = error.format_message()
    # click lists the values that a missing argument can have on lines of their own; they are ours, and not quoted.
    return " ".join(message.split()) if isinstance(error, click.MissingParameter) else message


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
