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
@click.option("--envelope", is_flag=True, help="Answer {src, dest, body} with an envelope on the way back.")
@click.option(
    "--trust-domain",
    type=TRUST_DOMAIN,
    default="example.com",
    show_default=True,
    help="Where services live whose message names no trust domain.",
)
def node(envelope: bool, trust_domain: TrustDomain) -> None:
    """Answer one JSON message a line on standard input with one reply a line on standard output.

    Messages: handshake, issue_certificate, verify_identity, rotate, policy. Every handshake is a real mutual TLS
    connection between two sidecars on the loopback interface. A blank line holds no message and gets no reply. Messages
    that change something are done in the order of their lines; replies come as soon as they are known, so that of a
    handshake comes after those of the quick messages behind it. An unknown field is ignored, and named once on standard
    error.
    """
    log_to_stderr(logging.ERROR)
    logger("meshtls.node").setLevel(logging.WARNING)
    stdin, stdout = _descriptor(sys.stdin, "input"), _descriptor(sys.stdout, "output")
    asyncio.run(run_node(stdin, stdout, trust_domain, envelope=envelope))


def _descriptor(stream: TextIO | None, name: str) -> int:
    # Python has None for a stream that was closed when it started.
    if stream is None:
        raise ConfigError(f"standard {name}: wanted it open, got it closed; redirect it to a file or to /dev/null")
    return stream.fileno()
