"""What the builder of the documentation site does to a page."""

from __future__ import annotations

from docs._site.diagrams import with_diagrams

PAGE = """\
# A page

```mermaid
graph TB
    A --> B
```

```console
$ echo mermaid
```

```mermaid
graph TB
    C --> D
```
"""


def _drawn(diagram: str) -> str:
    return f'<svg id="merman">\n{diagram.split()[2]}\n</svg>'


def test_each_diagram_of_a_page_is_one_line_of_html_with_an_id_of_its_own() -> None:
    lines = with_diagrams(PAGE, _drawn).splitlines()
    around = '<div class="diagram" style="overflow-x: auto; background: white; padding: 8px">{}</div>'
    assert [line for line in lines if "svg" in line] == [
        around.format('<svg id="diagram-1"> A </svg>'),
        around.format('<svg id="diagram-2"> C </svg>'),
    ]
    assert "```mermaid" not in lines


def test_other_blocks_stay_as_they_are() -> None:
    assert "```console\n$ echo mermaid\n```\n" in with_diagrams(PAGE, _drawn)
