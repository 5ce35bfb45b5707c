"""The diagrams of the pages, which are in Mermaid's notation, as SVG within the page.

They are drawn when the site is built, by mmdr. A reader's browser runs no script for them, and fetches nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

__all__ = ["svg_of", "with_diagrams"]

_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VIEW = re.compile(r'viewBox="\S+ \S+ (\S+) \S+"')
#: The name that mmdr gives to each diagram, and to what is in it. In a page with several, each needs its own.
_NAME = "merman"
#: Text is drawn a little smaller than it was measured, since the reader's font may be wider.
_FONT_SIZE = re.compile(r"(?<=font-size:)(14|16)(?=px)")
#: Pixels of a page's text; and how small a wider diagram may be drawn, so that more of it is seen at once.
_PAGE_WIDTH, _LEAST_SCALE = 740.0, 0.7
#: A diagram that is still wider can be scrolled. Its lines are black, also where the page is dark.
_AROUND = '<div class="diagram" style="overflow-x: auto; background: white; padding: 8px">{}</div>\n'


def with_diagrams(text: str, draw: Callable[[str], str]) -> str:
    """The page, with what ``draw`` makes of each block of Mermaid in its place, as one line of HTML."""
    numbers = itertools.count(1)

    def drawn(found: re.Match[str]) -> str:
        svg = " ".join(draw(found[1]).split("\n")).replace(_NAME, f"diagram-{next(numbers)}")
        return _AROUND.format(svg)

    return _BLOCK.sub(drawn, text)


def svg_of(diagram: str) -> str:
    """The SVG of a diagram, smaller than its natural size where that is wider than a page.

    Raises ValueError for one that can't be drawn.
    """
    import mmdr  # only what builds the site has it

    svg: str = mmdr.render(diagram).svg()
    view = _VIEW.search(svg)
    if view is None:
        raise ValueError(f"wanted a diagram that Mermaid can draw, got {diagram!r}")
    svg = _FONT_SIZE.sub(lambda found: str(int(found[0]) - 1), svg)
    natural = float(view[1])
    width = min(natural, max(_PAGE_WIDTH, natural * _LEAST_SCALE))
    return svg.replace('width="100%"', f'width="{width:.0f}"', 1)
