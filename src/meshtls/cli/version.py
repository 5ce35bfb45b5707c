"""``meshtls version``: the versions that a bug report needs."""

from __future__ import annotations

import platform
import ssl
from importlib.metadata import version as installed

import click

from meshtls.cli.options import output_option
from meshtls.cli.output import Output

__all__ = ["version"]


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
