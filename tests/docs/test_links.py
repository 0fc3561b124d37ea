"""Links of the documentation, as read in the repository and on the site. No network."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from docs.site.hooks import PAGES, anchored, relinked, section

ROOT = Path(__file__).parents[2]
READMES = ("README*.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FOLDERS = ("docs", "bench", "training", "tests/fixtures", "deploy", "examples", "client")
SOURCES = sorted(
    {
        *(path for pattern in READMES for path in ROOT.glob(pattern)),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")),
    }
    - {ROOT / "client/web/questions.md"}  # a link to docs/questions.md
)


@cache
def tokens(path: Path) -> list[Token]:
    """Return the tokens of a page, with those inside its paragraphs."""
    found = MarkdownIt().enable("table").parse(path.read_text("utf-8"))
    return [token for block in found for token in (block, *(block.children or ()))]


@cache
def anchors(path: Path) -> set[str]:
    """Return the anchors of a page: those that hosts of Git give its headings, and its own."""
    found: set[str] = set()
    read = tokens(path)
    for opened, text in pairwise(read):
        if opened.type == "heading_open":
            title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text.content)
            name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            number = sum(anchor.rpartition("-")[0] == name or anchor == name for anchor in found)
            found.add(f"{name}-{number}" if name in found else name)
        elif opened.type in ("html_block", "html_inline"):
            found.update(re.findall(r'<a id="([^"]+)"', opened.content))
    return found


def targets(path: Path) -> list[str]:
    """Return the targets of all links and pictures of a page that lead to the repository."""
    named = [str(t.attrs.get("href") or t.attrs.get("src") or "") for t in tokens(path)]
    return [target for target in named if target and not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path: Path) -> None:
    """A renamed heading leaves its links pointing at the top of the page, which nobody notices."""
    wrong = []
    for target in targets(path):
        name, _, anchor = unquote(target).partition("#")
        found = (path.parent / name).resolve() if name else path
        if not found.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(found):
            wrong.append(f"{target}: no such heading")
    assert not wrong, wrong


def test_links_out_of_docs_lead_to_copies_on_the_site() -> None:
    text = "[bench](../bench/README.md#run) [unit](../deploy/emotide.service) [p](page.md) [w](https://w)"
    assert relinked(text, "docs/performance.md", "performance.md") == (
        "[bench](project/benchmarks.md#run) unit (`deploy/emotide.service`) [p](page.md) [w](https://w)"
    )
    assert relinked("[mqtt](../docs/mqtt.md)", "bench/README.md", PAGES["bench/README.md"]) == (
        "[mqtt](../mqtt.md)"
    )
    assert relinked("```\n[x](y.md)\n```", "docs/page.md", "page.md") == "```\n[x](y.md)\n```"
    assert relinked("[中文](README.zh.md)", "README.md", "overview.md") == "中文"


def test_a_link_to_no_file_stops_the_build() -> None:
    with pytest.raises(Exception, match=r"docs/page\.md: the link gone\.md leads to no file"):
        relinked("[x](gone.md)", "docs/page.md", "page.md")


def test_a_translation_has_the_anchors_of_the_original() -> None:
    translation = '# 页面\n\n<a id="monitor"></a>\n\n## 监控\n'
    original = "# The page\n\n## Monitor\n\n## Right labels\n"
    assert anchored(translation, original) == (
        '# 页面\n\n<a id="right-labels"></a>\n\n<a id="monitor"></a>\n\n## 监控\n'
    )


def test_questions_become_a_page_for_each_language() -> None:
    text = (ROOT / "docs/questions.md").read_text("utf-8")
    english, chinese = section(text, "English"), section(text, "中文")
    assert english.startswith("# Questions\n\n## Nothing happens")
    assert chinese.startswith("# 常见问题\n\n## ")
    assert english.count("\n## ") == chinese.count("\n## ") == 7
