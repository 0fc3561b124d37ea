"""The sources of the site: the pages of docs/ and others of the repository, in one folder.

The pages are read in the repository, too, so their links are those of the repository. On the site,
a link to a page outside docs/ becomes one to its copy, and a link to any other file becomes its
path as code. questions.md has both languages, because the page of a server shows it; the site has a
page for each.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
from pathlib import Path

from asyncapi_viewer.assets import STATIC_DIR, VIEWER_FILES
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
STAGED = tempfile.TemporaryDirectory(prefix="emotide-docs-")

PAGES = {
    "README.md": "overview.md",
    "README.zh.md": "overview.zh.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
    "training/README.md": "project/training.md",
    "bench/README.md": "project/benchmarks.md",
    "examples/README.md": "examples.md",
    "tests/fixtures/telephony/README.md": "telephony/captured.md",
}
"""Page of the site by path in the repository, for those outside docs/."""

QUESTIONS = {"questions.md": "English", "questions.zh.md": "中文"}
"""Section of questions.md by page of the site."""

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Build the site from the folder that holds all its pages."""
    stage(Path(STAGED.name))
    config.docs_dir = STAGED.name
    return config


def stage(folder: Path) -> None:
    """Write all sources of the site into `folder`. Raises PluginError for a link to no file."""
    other = shutil.ignore_patterns("site", "*.md")
    shutil.copytree(DOCS, folder, ignore=other, dirs_exist_ok=True)
    for path in sorted(DOCS.rglob("*.md")):
        _write(folder, path.relative_to(ROOT).as_posix(), path.relative_to(DOCS).as_posix())
    for source, page in PAGES.items():
        _write(folder, source, page)
    for path in sorted(folder.rglob("*.zh.md")):
        original = path.with_name(path.name.replace(".zh.md", ".md")).read_text("utf-8")
        path.write_text(anchored(path.read_text("utf-8"), original), "utf-8")
    (folder / "viewer").mkdir(exist_ok=True)
    for name in VIEWER_FILES:
        shutil.copy(STATIC_DIR / name, folder / "viewer")
    text = (DOCS / "questions.md").read_text("utf-8")
    for page, language in QUESTIONS.items():
        (folder / page).write_text(section(text, language), "utf-8")


def section(text: str, language: str) -> str:
    """Return the section of a language of questions.md as a page."""
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    titles = head.partition("\n")[0].removeprefix("# ").split(" · ")
    for title, found in zip(titles, sections, strict=True):
        name, _, body = found.partition("\n")
        if name == language:
            return f"# {title}\n\n{re.sub('^###', '##', body.strip(), flags=re.MULTILINE)}\n"
    raise PluginError(f"docs/questions.md has no section {language!r}")


def anchored(translation: str, original: str) -> str:
    """Return a translated page in which every heading of the original has its anchor.

    English pages link to `page.md#monitor`, in the Chinese part of the site as well. The anchor of
    a heading is `<a id="monitor"></a>` before it; those that a translation lacks are at its top.
    """
    headings = re.findall(r"^##+ (.+)$", FENCE.sub("", original), re.MULTILINE)
    names = [slugify(case="lower")(heading, "-") for heading in headings]
    missing = [f'<a id="{name}"></a>' for name in names if f'id="{name}"' not in translation]
    title, _, rest = translation.partition("\n")
    return f"{title}\n\n{''.join(missing)}\n{rest}" if missing else translation


def relinked(text: str, source: str, page: str) -> str:
    """Return Markdown with links of the repository's file `source` as links of the site's `page`.

    Code blocks stay as they are. Raises PluginError for a link to no file.
    """
    pieces, end = [], 0
    for fence in FENCE.finditer(text):
        pieces += [_relinked(text[end : fence.start()], source, page), fence.group()]
        end = fence.end()
    return "".join([*pieces, _relinked(text[end:], source, page)])


def _write(folder: Path, source: str, page: str) -> None:
    path = folder / page
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(relinked((ROOT / source).read_text("utf-8"), source, page), "utf-8")


def _relinked(text: str, source: str, page: str) -> str:
    def replace(link: re.Match[str]) -> str:
        image, label, target = link.groups()
        label = _relinked(label, source, page)  # a picture as the text of a link
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return f"{image}[{label}]({target})"
        found = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if not (ROOT / found).exists():
            raise PluginError(f"{source}: the link {target} leads to no file")
        if found in PAGES:
            uri = PAGES[found]
        elif found.startswith("docs/"):
            uri = found.removeprefix("docs/")
        else:
            return label if label.strip("`") == found else f"{label} (`{found}`)"
        if uri.replace(".zh.", ".") == page.replace(".zh.", "."):
            return label  # the site has a switch of its own between languages
        relative = posixpath.relpath(uri, posixpath.dirname(page) or ".")
        return f"{image}[{label}]({relative}{mark}{anchor})"

    return LINK.sub(replace, text)
