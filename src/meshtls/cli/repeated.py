"""``--allow A B`` for ``--allow A --allow B``: click gives an option one value, or a fixed number of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

__all__ = ["RepeatedOptions"]


class RepeatedOptions(click.Command):
    """A command whose options with ``multiple`` may be followed by several values. It has no arguments of its own,
    which could be taken for more values.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        several = [param for param in self.params if isinstance(param, click.Option) and param.multiple]
        names = frozenset(name for option in several for name in option.opts)
        return super().parse_args(ctx, list(_each_with_its_name(names, args)))


def _each_with_its_name(names: frozenset[str], args: Sequence[str]) -> Iterator[str]:
    """``name`` is the option whose further values may follow; its first one is its own, even with a dash."""
    name, first = None, False
    for arg in args:
        if first:
            first = False
        elif arg.startswith("-"):
            name, joined, _ = arg.partition("=")
            first = not joined and name in names
        elif name in names:
            yield str(name)
        yield arg
