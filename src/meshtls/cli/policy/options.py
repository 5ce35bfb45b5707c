"""Options that the verbs of policies share: the mesh's settings, and texts of the form ``name=value``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from meshtls.cli.options import SPIFFE_ID, TRUST_DOMAIN
from meshtls.errors import RequestError
from meshtls.policy.istio.model import ROOT_NAMESPACE, Labels, MeshOptions, Normalization
from meshtls.scalars import shown
from meshtls.spiffeid import TrustDomain

__all__ = ["LABELS", "PAIR", "POLICIES", "labels_option", "mesh_options", "pairs_of"]

F = TypeVar("F", bound=Callable[..., Any])

POLICIES = click.Path(path_type=Path)


class _Pair(click.ParamType[tuple[str, str]]):
    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if not isinstance(value, str):
            pair: tuple[str, str] = value
            return pair
        try:
            return _pair(value)
        except RequestError as error:
            self.fail(str(error), param, ctx)


class _Labels(click.ParamType[Labels]):
    name = "NAME=VALUE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Labels:
        if not isinstance(value, str):
            labels: Labels = value
            return labels
        try:
            return pairs_of(value.split(",")) if value else ()
        except RequestError as error:
            self.fail(str(error), param, ctx)


PAIR = _Pair()
LABELS = _Labels()


def pairs_of(texts: Iterable[str]) -> Labels:
    """Raises RequestError for a text without ``=``, or without a name."""
    return tuple(map(_pair, texts))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise RequestError(f"wanted NAME=VALUE such as app=web, got {shown(text)}")
    return name, value


def mesh_options(command: Callable[..., int]) -> Callable[..., int]:
    """What Istio has in MeshConfig, passed as ``mesh``, a MeshOptions."""

    @wraps(command)
    def with_mesh(
        *,
        aliases: tuple[TrustDomain, ...],
        root_namespace: str,
        normalization: Normalization,
        **given: Any,
    ) -> int:
        names = tuple(one.name for one in aliases)
        mesh = MeshOptions(trust_domain_aliases=names, root_namespace=root_namespace, normalization=normalization)
        return command(mesh=mesh, **given)

    for option in (
        click.option(
            "--path-normalization",
            "normalization",
            type=click.Choice(Normalization, case_sensitive=False),
            default=Normalization.BASE,
            show_default=True,
            help="What is done to a path before it is matched.",
        ),
        click.option(
            "--root-namespace",
            default=ROOT_NAMESPACE,
            show_default=True,
            help="The namespace whose policies are for all namespaces.",
        ),
        click.option(
            "--trust-domain-alias",
            "aliases",
            type=TRUST_DOMAIN,
            multiple=True,
            help="A trust domain that principals may name instead of the mesh's; repeat for several.",
        ),
    ):
        with_mesh = option(with_mesh)
    return with_mesh


def labels_option(command: F) -> F:
    """Add ``--labels ID NAME=VALUE,...``, passed as ``labels``."""
    return click.option(
        "--labels",
        type=(SPIFFE_ID, LABELS),
        multiple=True,
        metavar="ID NAME=VALUE,...",
        help="The labels of a destination, which selectors match and an access log does not have; repeat for several.",
        callback=lambda ctx, param, value: dict(value),
    )(command)
