"""``meshtls``: the group of all verbs, and what an error becomes: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from meshtls.cli.output import Output, tell, wants_json
from meshtls.errors import ConfigError, MeshtlsError
from meshtls.logs import LineFormatter, traceback_text
from meshtls.printable import printable

__all__ = ["cli", "main"]

_CONFIG, _FAILED, _INTERRUPTED = 2, 1, 130
_OF_THE_SERVER = ("aiosqlite", "alembic", "asyncpg", "sqlalchemy")
# Each is in the module of its name. What it does stands here, too, so that the list of them loads none.
_VERBS = {
    "up": "Start a whole mesh in one process, and show it at work.",
    "server": "The CA server: registers workloads, attests nodes, signs.",
    "agent": "A node's agent: Workload API and Envoy's SDS.",
    "sidecar": "Plaintext to its app, mutual TLS to its peers.",
    "entry": "Registration entries: who shall get which identity.",
    "token": "Join tokens: each attests one node, once.",
    "agents": "The nodes that attested.",
    "bundle": "Trust bundles: ours, and those we federate with.",
    "x509": "X509-SVIDs without an agent.",
    "jwt": "JWT-SVIDs without an agent.",
    "fetch": "SVIDs, tokens and bundles of this process, once.",
    "watch": "Each new X509-SVID of this process as it comes.",
    "validate-jwt": "Let the Workload API judge a token.",
    "explain": "Which entries match a process, and why others do not.",
    "tls-server": "Say hello to the clients that are allowed.",
    "tls-client": "Connect once, and print who the server is.",
    "ca": "A CA and its Workload API for one machine's users.",
    "app": "A small HTTP app to put behind a sidecar.",
    "node": "Answer JSON messages, one a line, by real handshakes.",
    "config": "What the configuration files may say.",
    "completion": "Print the completion script of bash, zsh or fish.",
    "version": "Print the versions of meshtls, Python and OpenSSL.",
}


class _Verbs(click.Group):
    """Loads a verb when it is asked for: a script that calls ``meshtls fetch jwt`` does not wait for a database."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"meshtls.cli.{name}"), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own loads every verb for its help text.
        verbs = [CompletionItem(name, help=text) for name, text in _VERBS.items() if name.startswith(incomplete)]
        # The group's own options, without its commands.
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshtls", prog_name="meshtls")
def cli() -> None:
    """A SPIFFE service mesh: a CA, short-lived identities, and sidecars that speak mutual TLS."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0 done, 1 it failed, 2 the configuration or the command line has to be mended."""
    if arguments is None:  # the process is ours
        _escape_what_python_prints()
        _end_by_sigterm()
    sys.exit(_run(arguments))


def _end_by_sigterm() -> None:
    """Linux keeps a signal without a handler from the first process of a container."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _escape_what_python_prints() -> None:
    """Python's own ways to standard error: tracebacks, and the log of a verb that sets up none."""
    sys.excepthook = lambda kind, error, where: tell(*traceback_text(error).split("\n"), err=True)
    threading.excepthook = lambda thread: tell(*traceback_text(thread.exc_value).split("\n"), err=True)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(LineFormatter())


def _run(arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    out = Output(as_json=wants_json(words))
    try:
        return cli.main(words, prog_name="meshtls", standalone_mode=False) or 0
    except click.ClickException as error:
        if out.as_json:
            out.error(type(error).__name__, error.format_message(), error.exit_code)
        else:
            tell(*_shown(error).split("\n"), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not find that out once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except (MeshtlsError, BaseExceptionGroup) as error:
        return _explain(error, out)
    except ModuleNotFoundError as error:
        if error.name not in _OF_THE_SERVER:
            raise
        advice = f"{error.name} is not installed; this verb needs pip install 'meshtls[server]'"
        out.error("ConfigError", advice, _CONFIG)
        return _CONFIG


def _shown(error: click.ClickException) -> str:
    shown, message = io.StringIO(), error.format_message()
    error.show(shown)
    text = shown.getvalue().rstrip("\n")
    # A message that is the help has lines of its own; every other one is a sentence that quotes the command line.
    is_help = isinstance(error, click.UsageError) and error.ctx is not None and message == error.ctx.get_help()
    return text if is_help else text.replace(message, printable(message))


def _explain(error: BaseException, out: Output) -> int:
    leaves = list(_leaves(error))
    ours = [leaf for leaf in leaves if isinstance(leaf, MeshtlsError)]
    if len(ours) < len(leaves):
        raise error
    code = _CONFIG if any(isinstance(leaf, ConfigError) for leaf in ours) else _FAILED
    for leaf in ours:
        problems = leaf.problems if isinstance(leaf, ConfigError) else ()
        out.error(type(leaf).__name__, str(leaf), code, problems)
    return code


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
