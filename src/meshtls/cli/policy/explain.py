"""``meshtls policy explain``: judges one request, and says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from meshtls.cli.options import SPIFFE_ID, ParsedOption, output_option
from meshtls.cli.output import Output
from meshtls.cli.policy.facts import Facts, caller, ip_address
from meshtls.cli.policy.options import PAIR, POLICIES, mesh_options
from meshtls.cli.policy.sidecar_file import listener_of
from meshtls.cli.policy.tokens import token_review
from meshtls.cli.policy.words import (
    AllowToAdd,
    Told,
    explained_lines,
    explained_record,
    not_applied,
    principals_of,
)
from meshtls.errors import RequestError
from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.files import read_documents
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.model import Labels, MeshOptions
from meshtls.policy.review import review
from meshtls.policy.workloads import workload_of
from meshtls.regular_files import open_regular
from meshtls.scalars import port as port_number
from meshtls.sidecar.config import load_config
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt_format import MAX_TOKEN_BYTES

__all__ = ["explain"]

_IP = ParsedOption("IP", ip_address)


def _request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The request's facts, passed by the names of the fields of ``Facts``."""
    for option in (
        click.option(
            "--token",
            type=click.Path(path_type=Path, allow_dash=True),
            help="A file with a JWT, which is sent as Authorization: Bearer; - is standard input.",
        ),
        click.option("--claim", "claims", type=PAIR, multiple=True, help="A claim of its verified token."),
        click.option("--sni", help="The server name of its ClientHello."),
        click.option("--destination-ip", type=_IP, help="The address of ours that it is sent to."),
        click.option("--remote-ip", type=_IP, help="The original client's address; default: that of --ip."),
        click.option("--ip", type=_IP, help="The address that it comes from."),
        click.option("--header", "headers", type=PAIR, multiple=True, help="A header of the request."),
        click.option("--host", help="The request's host, with its port if that is sent."),
        click.option("--path", help="The request's path, with its query.  [default: /]"),
        click.option("--method", help="The request's method.  [default: GET]"),
        click.option("--port", type=ParsedOption("PORT", port_number), help="The workload's own port."),
        click.option(
            "--to", "destination", type=SPIFFE_ID, help="The workload that is called.  [default: that of --config]"
        ),
        click.option(
            "--from",
            "source",
            type=ParsedOption("ID|plaintext", caller),
            required=True,
            help="The caller's SPIFFE ID, or plaintext, which proves none.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("policies", type=POLICIES, nargs=-1)
@_request_options
@click.option(
    "--config", type=POLICIES, help="A sidecar's file: judge as it does, by its policies, its modes and its allow."
)
@click.option("--label", "labels", type=PAIR, multiple=True, help="A label of the workload, which selectors match.")
@click.option("--namespace", help="The workload's namespace.  [default: that of its ID, /ns/<namespace>/]")
@mesh_options
@output_option
def explain(
    policies: tuple[Path, ...],
    config: Path | None,
    labels: Labels,
    namespace: str | None,
    mesh: MeshOptions,
    out: Output,
    **facts: Any,
) -> int:
    """Judge one request by POLICIES, files and directories, and say why it is allowed or denied.

    With one of --method, --path, --host, --header, --token and --claim it is an HTTP request; else a connection whose
    bytes are not read. With --config the verdict is that of the sidecar with this file; the listener's protocol says
    what is HTTP. No key set is fetched and no provider is asked: the output says what was not judged. Exit code: 0 if
    it is allowed, 1 if it is denied, 2 for errors.
    """
    if (token := facts.pop("token")) is not None:
        if facts["claims"]:
            raise click.UsageError("wanted --token or --claim, got both")
        facts["headers"] = (*facts["headers"], ("authorization", f"Bearer {_token_in(token)}"))
    if config is not None:
        if policies or labels or namespace or mesh.trust_domain_aliases:
            raise click.UsageError("wanted --config, or POLICIES with --label and the like, got both")
        told = _by_sidecar(config, **facts)
    elif not policies:
        raise click.UsageError("wanted POLICIES, or a sidecar's file with --config")
    elif facts["destination"] is None:
        raise click.UsageError("wanted --to, the workload that is called")
    else:
        given = Facts(**facts)
        documents, workload = read_documents(policies), workload_of(given.destination, labels, namespace)
        settings = mesh.of(given.destination.trust_domain)
        compiled = compile_policies(documents, settings, workload)
        tokens = token_review(compiled.jwt_rules, given.destination)
        request, notes = given.asked()
        found = review(compiled, request, reads_http=given.reads_http, tokens=tokens)
        missed = not_applied(documents, settings, workload)
        told = Told(found, principals_of(documents, settings, workload), missed, notes=notes)
    out.record(explained_record(told), "\n".join(explained_lines(told)))
    return 0 if told.review.decision.allowed else 1


def _token_in(file: Path) -> str:
    """Raises RequestError for a file that can't be read."""
    try:
        with nullcontext(sys.stdin.buffer) if str(file) == "-" else open_regular(file) as source:
            return source.read(MAX_TOKEN_BYTES + 2).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--token: wanted a file with a JWT, got {file}: {error}") from error


def _by_sidecar(file: Path, *, destination: SpiffeId | None, port: int | None, **facts: Any) -> Told:
    """As the sidecar with this file judges it. Raises ConfigError, and RequestError for a port or an ID not its own."""
    config = load_config(file)
    if destination is not None and destination != config.spiffe_id:
        raise RequestError(f"--to: wanted {config.spiffe_id}, that of the sidecar's file, got {destination}")
    listener = listener_of(config, port)
    said = Facts(destination=config.spiffe_id, port=listener.inbound.app.port, **facts)
    found, notes = listener.review(said)
    to_allow = None
    if found.decision.verdict is PolicyVerdict.DENY and said.source is not None:
        wider = listener.allowing(said.source)
        if wider is not None and wider.review(said)[0].decision.allowed:
            at = config.inbound.index(listener.inbound)
            to_allow = AllowToAdd(f"inbound[{at}].allow", str(file), str(said.source))
    return Told(found, listener.principals(), to_allow=to_allow, notes=notes)
