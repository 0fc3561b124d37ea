"""The documentation as a site: built strictly, complete, and rendered in a browser."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser, Page, expect

from docs.site.hooks import stage

ROOT = Path(__file__).parents[2]
BASE = "/docs/"
"""Path of `site_url` in mkdocs.yml."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does; a link or anchor that leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Links(HTMLParser):
    """Addresses and anchors of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(value for name, value in attrs if name == "id" and value)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("img", "script", "iframe", "asyncapi-viewer") and "src" in values:
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(values["href"])


def test_every_address_of_the_site_leads_to_one_of_its_files(site: Path) -> None:
    """Nothing is loaded from other hosts, so the site works in a closed network."""
    pages = {path: Links(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 60, "English and Chinese pages"
    wrong = []
    for path, page in pages.items():
        here = BASE + path.relative_to(site).as_posix()
        for target in (*page.links, *page.loaded):
            address = urlsplit(urljoin(here, target))
            if address.scheme or address.netloc:
                assert target not in page.loaded, f"{path} loads {target}"
                continue
            name = unquote(address.path)
            if not name.startswith(BASE):
                wrong.append(f"{path}: {target}")
                continue
            file = site / name.removeprefix(BASE)
            file = file / "index.html" if file.is_dir() else file
            anchor = unquote(address.fragment)
            known = pages[file].anchors if file in pages else {anchor}
            if not file.is_file() or (anchor and anchor not in known):
                wrong.append(f"{path}: {target}")
    assert not wrong, wrong


def _shape(text: str) -> Counter[str]:
    """Return how often a page has each element that a reader would miss."""
    article = text.partition("<article")[2].partition("</article>")[0] or text
    article = article.partition("<asyncapi-viewer")[0]
    links = [
        link for link in re.findall(r"<a [^>]*href[^>]*>", article) if "headerlink" not in link
    ]
    return Counter([*re.findall(r"<(li|ul|ol|td|pre|h2)\b", article), *(["a"] * len(links))])


def test_pages_have_the_same_shape_on_the_site_as_in_the_repository(
    site: Path, tmp_path: Path
) -> None:
    """Python-Markdown makes one paragraph of a list without an empty line before it."""
    stage(tmp_path)
    commonmark = MarkdownIt().enable("table")
    wrong = []
    for path in sorted(tmp_path.rglob("*.md")):
        name = path.relative_to(tmp_path).as_posix()
        folder = "zh/" if ".zh." in name else ""
        name = name.replace(".zh.", ".").removesuffix(".md")
        name = name.removesuffix("index").removesuffix("README")
        built = _shape((site / folder / name / "index.html").read_text("utf-8"))
        meant = _shape(commonmark.render(path.read_text("utf-8")))
        if built != meant:
            wrong.append(f"{name}: {meant - built} missing, {built - meant} more")
    assert not wrong, wrong


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """Address of the site on a server of its own, below the path that mkdocs.yml states."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return super().translate_path("/" + path.removeprefix(BASE))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}{BASE}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def page(chromium: Browser, url: str) -> Iterator[Page]:
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    foreign: list[str] = []
    page.on("request", lambda r: None if r.url.startswith(url) else foreign.append(r.url))
    yield page
    context.close()
    assert not [address for address in foreign if not address.startswith(("data:", "blob:"))]


def test_contracts_are_rendered(page: Page, url: str) -> None:
    """Swagger UI refused openapi.json, which named two paths twice; no parser of the tests did."""
    page.goto(f"{url}contract/")
    expect(page.locator("asyncapi-viewer").get_by_text("emotion.score").first).to_be_attached()
    page.goto(f"{url}http/")
    swagger = page.frame_locator("iframe.swagger-ui-iframe")
    expect(swagger.get_by_text("Send a recording and analyse it")).to_be_visible()


def test_search_finds_chinese_words(page: Page, url: str) -> None:
    page.goto(f"{url}zh/")
    page.locator("input.md-search__input").fill("情绪")
    expect(page.locator(".md-search-result__item").first).to_be_attached()
    expect(page.locator(".md-search-result__meta")).to_contain_text("符合条件的结果")
