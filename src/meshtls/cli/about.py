"""``meshtls version``, for bug reports, and ``meshtls completion``, the completion script of a shell."""

from __future__ import annotations

import platform
import ssl
from importlib.metadata import version as installed

import click
from click.shell_completion import get_completion_class

from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.errors import ConfigError

__all__ = ["completion", "version"]


@click.command()
@output_option
def version(out: Output) -> None:
    """Print the versions of meshtls and of what its TLS depends on: Python, its OpenSSL, and cryptography."""
    versions = {
        "meshtls": installed("meshtls"),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
        "cryptography": installed("cryptography"),
        "platform": platform.platform(),
    }
    first, *others = versions.items()
    out.record(versions, "\n".join([" ".join(first), *(f"  {name:<12} {value}" for name, value in others)]))


_PROGRAM = "meshtls"
_VARIABLE = "_MESHTLS_COMPLETE"
#: How to install the script of each shell for one user.
_INSTALL = {
    "bash": (
        "mkdir -p ~/.local/share/bash-completion/completions",
        "meshtls completion bash > ~/.local/share/bash-completion/completions/meshtls",
    ),
    "zsh": (
        "mkdir -p ~/.zfunc",
        "meshtls completion zsh > ~/.zfunc/_meshtls",
        "and in ~/.zshrc, before compinit runs:  fpath+=~/.zfunc",
    ),
    "fish": (
        "mkdir -p ~/.config/fish/completions",
        "meshtls completion fish > ~/.config/fish/completions/meshtls.fish",
    ),
}


@click.command(
    epilog="\b\n"
    + "\n\n\b\n".join(f"{shell}:\n" + "\n".join(f"  {line}" for line in lines) for shell, lines in _INSTALL.items())
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@output_option
def completion(out: Output, shell: str) -> None:
    """Print the completion script of a shell.

    Install it with the commands below and start a new shell. In bash, `eval "$(meshtls completion bash)"` enables it
    for one session; bash 4.4 or newer is required.
    """
    script_class = get_completion_class(shell)
    if script_class is None:
        raise ConfigError(f"{shell}: this version of click has no completion script for it")
    from meshtls.cli.main import cli  # late: it loads this module by name

    # Not click's source(), which requires that bash itself is installed.
    completer = script_class(cli, {}, _PROGRAM, _VARIABLE)
    script = completer.source_template % completer.source_vars()
    out.record({"shell": shell, "script": script, "install": list(_INSTALL[shell])}, script)
