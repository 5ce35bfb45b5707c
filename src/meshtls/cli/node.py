"""``meshtls node``: JSON messages on standard input, replies on standard output."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TextIO

import click

from meshtls.cli.options import TRUST_DOMAIN, log_to_stderr
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.node.run import run_node
from meshtls.spiffeid import TrustDomain

__all__ = ["node"]


@click.command()
@click.option(
    "--envelope",
    is_flag=True,
    help="Answer a message in a {src, dest, body} envelope with an envelope, src and dest swapped.",
)
@click.option(
    "--trust-domain",
    type=TRUST_DOMAIN,
    default="example.com",
    show_default=True,
    help="The trust domain of services whose message names none.",
)
def node(envelope: bool, trust_domain: TrustDomain) -> None:
    """Answer JSON messages on standard input, one per line, with replies on standard output, one per line.

    Messages: handshake, issue_certificate, verify_identity, rotate, policy. Every handshake is a real mutual TLS
    connection between two sidecars on the loopback interface. Messages take effect in the order of their lines. A reply
    is written as soon as it is ready, so the reply to a handshake may come after those to later messages. A blank line
    gets no reply. An unknown field is ignored, and logged once on standard error.
    """
    log_to_stderr(logging.ERROR)
    logger("meshtls.node").setLevel(logging.WARNING)
    stdin, stdout = _descriptor(sys.stdin, "input"), _descriptor(sys.stdout, "output")
    asyncio.run(run_node(stdin, stdout, trust_domain, envelope=envelope))


def _descriptor(stream: TextIO | None, name: str) -> int:
    # A stream that was closed when Python started is None.
    if stream is None:
        raise ConfigError(
            f"standard {name}: wanted an open stream, got a closed one; redirect it to a file or to /dev/null"
        )
    return stream.fileno()
