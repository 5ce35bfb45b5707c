"""``meshtls validate-jwt``: is this token good, and whose is it?"""

from __future__ import annotations

import asyncio
import sys

import click

from meshtls.cli.options import output_option, workload_option
from meshtls.cli.output import Output
from meshtls.cli.records import jwt_record
from meshtls.cli.workload_socket import workload_address
from meshtls.errors import InvalidSvidError, RequestError
from meshtls.svid.jwt import JwtSvid
from meshtls.workload.client import WorkloadApiClient

__all__ = ["validate_jwt"]


@click.command()
@click.option("--audience", required=True, help="Who we are: whom the token has to be for.")
@click.option("--token", default="-", help="The token; - reads it from standard input, where nobody else sees it.")
@workload_option
@output_option
def validate_jwt(out: Output, workload_socket: str | None, audience: str, token: str) -> int:
    """Let the Workload API judge a token by the bundles of this process. Exit code 1: it is refused."""
    given = sys.stdin.buffer.read().decode("utf-8", "replace") if token == "-" else token  # noqa: S105  # "-" is none
    text = given.strip()
    if not text:
        raise RequestError("validate-jwt: wanted a token, got nothing")
    try:
        svid = asyncio.run(_validated(workload_socket, text, audience))
    except InvalidSvidError as error:
        if not out.as_json:
            raise
        out.record({"valid": False, "reason": str(error)})
        return 1
    out.record({"valid": True, **jwt_record(svid)})
    return 0


async def _validated(socket: str | None, token: str, audience: str) -> JwtSvid:
    async with WorkloadApiClient(workload_address(socket)) as client:
        return await client.validate_jwt_svid(token, audience)
