"""``meshtls up``: the whole mesh in one process, for a walk through it or to stay."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import click

from meshtls.cli.demo import Results, run_demo
from meshtls.cli.demo_report import as_json, show
from meshtls.cli.local_mesh import load_directory, local_mesh
from meshtls.cli.options import DURATION, log_to_stderr
from meshtls.cli.output import Terminal, tell
from meshtls.cli.publish import publish_bundle
from meshtls.cli.stay import Plan, stay

__all__ = ["up"]

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--once", is_flag=True, help="Walk through the mesh, print what happened, and exit: 0 if all of it did.")
@click.option("--svid-ttl", type=DURATION, default="1h", show_default=True, help="How long an SVID lives.")
@click.option(
    "--sidecars",
    type=_DIRECTORY,
    default=Path(__file__).with_name("sidecars"),
    show_default="two of meshtls's own",
    help="Where the *.yaml are.",
)
@click.option("--data-dir", type=_DIRECTORY, help="Keep the CA here; without it the CA lives in memory.")
@click.option("--certs", type=_DIRECTORY, default="certs", show_default=True, help="Where the trust bundle goes.")
@click.option(
    "--call-every", type=DURATION, default="2s", show_default=True, help="How often the apps call each other."
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def up(
    once: bool,
    svid_ttl: timedelta,
    sidecars: Path,
    data_dir: Path | None,
    certs: Path,
    call_every: timedelta,
    output: str,
) -> int:
    """Start a CA, the sidecars of a directory, and a small app behind each of them."""
    log_to_stderr(logging.ERROR)
    plan = Plan(load_directory(sidecars), svid_ttl, data_dir, certs, call_every, output == "json")
    return asyncio.run(_once(plan) if once else stay(plan))


async def _once(plan: Plan) -> int:
    results = Results()
    async with local_mesh(plan.sidecars, plan.svid_ttl, plan.data_dir, results) as mesh:
        publish_bundle(plan.certs, mesh.authority.bundle)
        demo = await run_demo(mesh, results)
    if plan.json:
        tell(*as_json(demo).split("\n"))
    else:
        show(demo, Terminal(highlight=False, soft_wrap=True))
    return 1 if demo.problems else 0
