"""The page as the server sends it: types, caching, and the content security policy."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from http import HTTPStatus
from typing import Any

import pytest
from httpx2 import URL
from starlette.testclient import TestClient

from stream.config import ServerConfig
from stream.delivery.hub import Hub
from stream.server.access.auth import Authenticator
from stream.server.access.gate import Gate
from stream.server.http.application import Http
from stream.server.http.static_files import WEB
from stream.telemetry.metrics import Metrics

FILES = sorted(path for path in WEB.rglob("*") if path.is_file())
VENDORED = WEB / "vendor"
OURS = [path for path in FILES if VENDORED not in path.parents and path.suffix != ".flac"]
MODULES = [path for path in OURS if path.suffix == ".js"]
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
    ".flac": "audio/flac",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".json": "application/json",
}
SPECIFICATIONS = {"http://www.w3.org/2000/svg"}
"""URLs that are names and are never fetched."""


@pytest.fixture(scope="module")
def page() -> TestClient:
    """A client of the HTTP application, without a socket."""
    gate = Gate(ServerConfig(), Authenticator([]), Metrics("test"), ())
    documents = {"/v1/info": lambda: (HTTPStatus.OK, {"name": "x"})}
    app = Http(gate, documents, Hub(), bytes, None, 1).app()
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_served_with_its_type(page: TestClient, path: Any) -> None:
    response = page.get(f"/{path.relative_to(WEB).as_posix()}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == TYPES[path.suffix]
    assert response.content == path.read_bytes()
    assert response.headers["Content-Length"] == str(len(response.content))
    assert response.headers["Cache-Control"] == "no-cache"


def test_the_root_is_the_page(page: TestClient) -> None:
    assert page.get("/").content == (WEB / "index.html").read_bytes()
    assert page.get("/?lang=de").status_code == 200


@pytest.mark.parametrize("path", ["/", "/app.js", "/healthz", "/v1/info", "/nothing"])
def test_every_response_has_the_security_headers(page: TestClient, path: str) -> None:
    headers = page.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    # The page fetches audio with the key before it plays it.
    assert "media-src blob:" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    # Sockets to any host were allowed, so an injected script could have sent audio there.
    assert not {"ws:", "wss:", "http:", "https:", "*"} & set(policy.replace(";", " ").split())
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_an_unchanged_file_is_not_sent_again(page: TestClient) -> None:
    first = page.get("/app.js")
    again = page.get("/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "Content-Security-Policy" in again.headers
    other = page.get("/app.js", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200
    assert first.headers["ETag"] != page.get("/style.css").headers["ETag"]


def test_head_has_the_headers_of_get(page: TestClient) -> None:
    """The body of a response to HEAD is left out; `test_http` checks that on a socket."""
    whole, head = page.get("/app.js").headers, page.head("/app.js").headers
    assert whole["Content-Length"] == head["Content-Length"]
    assert whole.keys() == head.keys()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(page: TestClient, method: str) -> None:
    response = page.request(method, "/")
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/../server.py",
        "/%2e%2e/server.py",
        "/..%2fserver.py",
        "//app.js",
        "/client/web/app.js",
        "/app.js/",
        "/index.html/",
        "/vendor",
        "/vendor/",
        "/app.js%00",
        "/" + "x" * 3000,
    ],
)
def test_other_paths_are_not_found(page: TestClient, path: str) -> None:
    response = page.get(URL("http://localhost", raw_path=path.encode()))
    assert response.status_code == 404
    assert response.json() == {"error": "not found"}


class Markup(HTMLParser):
    """Parser that collects the tags, and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style"):
            self.inline += data.strip()


@pytest.fixture(scope="module")
def markup() -> Markup:
    return Markup((WEB / "index.html").read_text(encoding="utf-8"))


def test_the_page_contains_nothing_inline(markup: Markup) -> None:
    assert not markup.inline
    for tag, attributes in markup.tags:
        assert tag != "style"
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert tag != "script" or attributes.get("src")


def test_every_file_that_the_page_names_is_served(page: TestClient, markup: Markup) -> None:
    named = {a.get("src") or a.get("href") for _, a in markup.tags} - {None}
    local = {str(name) for name in named if not str(name).startswith("#")}
    for module in MODULES:
        for name in re.findall(r'from "(\.[\w./-]+)"', module.read_text(encoding="utf-8")):
            target = (module.parent / name).resolve()
            local.add(target.relative_to(WEB).as_posix())
    for name in local - {"v1/info", "metrics", "asyncapi.yaml"}:
        assert page.get(f"/{name}").status_code == 200, name
    assert {"app.js", "style.css"} <= local


@pytest.mark.parametrize("path", sorted(VENDORED.iterdir()), ids=lambda path: path.name)
def test_vendored_code_has_its_licence_and_makes_no_requests(path: Any) -> None:
    assert (path / "LICENSE.txt").read_text(encoding="utf-8").strip()
    for script in path.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|\bimport\(|\beval\(", text)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_file_refers_to_another_host(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:https?|wss?):?//[^\s\"'`)]+", text)) <= SPECIFICATIONS
    assert not re.search(r"(?:src|href)=\"//", text)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_scripts_never_parse_text_as_markup(path: Any) -> None:
    """Ids and roles come from producers, so the page shows them as text only."""
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert not re.search(forbidden, path.read_text(encoding="utf-8"))


def test_the_page_has_landmarks_and_unique_ids(markup: Markup) -> None:
    tags = [tag for tag, _ in markup.tags]
    assert {"main", "header", "footer", "h1", "h2"} <= set(tags)
    attributes = dict(markup.tags)
    assert attributes["html"]["lang"] == "en"
    ids = [a["id"] for _, a in markup.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert any(a.get("role") == "status" for _, a in markup.tags)
    assert all("alt" in a for tag, a in markup.tags if tag == "img")
    script = (WEB / "app.js").read_text(encoding="utf-8")
    assert set(re.findall(r'\bbyId\("([\w-]+)"\)', script)) <= set(ids)
    style = (WEB / "style.css").read_text(encoding="utf-8")
    assert "prefers-reduced-motion" in style
    assert "prefers-color-scheme: dark" in style


def channels(colour: str) -> tuple[float, ...]:
    steps = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in steps)


def contrast(one: str, other: str) -> float:
    """Return WCAG 2's contrast ratio of two #rrggbb colours."""
    light, dark = sorted(
        (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05 for r, g, b in map(channels, (one, other))),
        reverse=True,
    )
    return light / dark


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_enough_contrast(theme: int) -> None:
    style = (WEB / "style.css").read_text(encoding="utf-8")
    colour = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", style.split(":root {")[theme + 1]))
    for name in ("text", "soft", "accent", "good", "warn"):
        assert contrast(colour[name], colour["card"]) >= 4.5, name
        assert contrast(colour[name], colour["page"]) >= 4.5, name
    emotions = set(re.findall(r"\.fill\.(\w+)", style))
    assert len(emotions) == 9
    for name in emotions:
        assert contrast(colour[name], colour["track"]) >= 3, name
