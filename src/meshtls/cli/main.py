"""``meshtls``: the group of all verbs, and what an error becomes: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

import click

from meshtls.cli.app import app
from meshtls.cli.ca import ca
from meshtls.cli.node import node
from meshtls.cli.sidecar import sidecar
from meshtls.cli.up import up
from meshtls.errors import ConfigError, MeshtlsError

__all__ = ["cli", "main"]

_CONFIG, _FAILED, _INTERRUPTED = 2, 1, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshtls", prog_name="meshtls")
def cli() -> None:
    """A SPIFFE service mesh: a CA, short-lived identities, and sidecars that speak mutual TLS."""


for _verb in (up, sidecar, ca, app, node):
    cli.add_command(_verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0 done, 1 it failed, 2 the configuration or the command line has to be mended."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return cli.main(arguments, prog_name="meshtls", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not find that out once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except (MeshtlsError, BaseExceptionGroup) as error:
        return _explain(error)


def _explain(error: BaseException) -> int:
    leaves = list(_leaves(error))
    ours = [leaf for leaf in leaves if isinstance(leaf, MeshtlsError)]
    if len(ours) < len(leaves):
        raise error
    for leaf in ours:
        click.echo(f"meshtls: {leaf}", err=True)
    return _CONFIG if any(isinstance(leaf, ConfigError) for leaf in ours) else _FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
