"""``meshtls up``: a whole mesh in one process, for one walk through it or until a signal."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import click

from meshtls.cli.demo.mesh import load_directory, local_mesh
from meshtls.cli.demo.report import as_json, show
from meshtls.cli.demo.stay import Plan, stay
from meshtls.cli.demo.walk import Results, run_demo
from meshtls.cli.options import DURATION, log_to_stderr
from meshtls.cli.output import Terminal, tell
from meshtls.cli.svid_files import publish_bundle

__all__ = ["up"]

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option(
    "--once", is_flag=True, help="Walk through the mesh, print the results, and exit: 0 if all steps went as expected."
)
@click.option("--svid-ttl", type=DURATION, default="1h", show_default=True, help="The lifetime of an SVID.")
@click.option(
    "--sidecars",
    type=_DIRECTORY,
    default=Path(__file__).parent.with_name("sidecars"),
    show_default="two that come with meshtls",
    help="The directory of the sidecars' *.yaml files.",
)
@click.option("--data-dir", type=_DIRECTORY, help="Keep the CA's keys here; without it they are in memory.")
@click.option(
    "--certs", type=_DIRECTORY, default="certs", show_default=True, help="The directory to write the trust bundle to."
)
@click.option(
    "--call-every", type=DURATION, default="2s", show_default=True, help="How often the apps call each other."
)
@click.option(
    "--dashboard/--no-dashboard",
    default=True,
    show_default=True,
    help="Show the mesh in a browser, too, where the extra is installed: pip install 'meshtls[dashboard]'.",
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def up(
    once: bool,
    svid_ttl: timedelta,
    sidecars: Path,
    data_dir: Path | None,
    certs: Path,
    call_every: timedelta,
    dashboard: bool,
    output: str,
) -> int:
    """Start a CA, the sidecars of a directory, and a small app behind each sidecar."""
    log_to_stderr(logging.ERROR)
    plan = Plan(load_directory(sidecars), svid_ttl, data_dir, certs, call_every, output == "json", dashboard)
    return asyncio.run(_walk(plan) if once else stay(plan))


async def _walk(plan: Plan) -> int:
    results = Results()
    async with local_mesh(plan.sidecars, plan.svid_ttl, plan.data_dir, results) as mesh:
        publish_bundle(plan.certs, mesh.authority.bundle)
        demo = await run_demo(mesh, results)
    if plan.json:
        tell(*as_json(demo).split("\n"))
    else:
        show(demo, Terminal(highlight=False, soft_wrap=True))
    return 1 if demo.problems else 0
