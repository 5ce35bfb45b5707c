"""``meshtls completion``: the script with which a shell completes verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.errors import ConfigError

__all__ = ["completion"]

_PROGRAM = "meshtls"
_VARIABLE = "_MESHTLS_COMPLETE"
#: How the script of each shell is installed for one user.
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

    Install it with the lines below and start a new shell. In bash, `eval "$(meshtls completion bash)"` tries it without
    an install; bash 4.4 or newer is needed.
    """
    script_class = get_completion_class(shell)
    if script_class is None:
        raise ConfigError(f"{shell}: this version of click has no completion for it")
    from meshtls.cli.main import cli  # it loads this module by name

    # click's source() for bash first looks for bash itself; the script is the same where there is none.
    completer = script_class(cli, {}, _PROGRAM, _VARIABLE)
    script = completer.source_template % completer.source_vars()
    out.record({"shell": shell, "script": script, "install": list(_INSTALL[shell])}, script)
