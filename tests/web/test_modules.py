"""The structure of the page's modules: the direction of imports, and plain English."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from stream.server.http.static_files import WEB
from tests.test_english import BANNED, NO_VERB

MODULES = sorted(p.relative_to(WEB) for p in WEB.rglob("*.js") if "vendor" not in p.parts)
VIEWS = ("monitor", "microphone", "recordings", "history")
COMMENT = re.compile(r"/\*\*(.*?)\*/\s*([^\n]*)", re.DOTALL)
FUNCTION = re.compile(r"(export )?(static )?(async )?(function )?[#\w]+\([^;]*\) \{|.*=> ?")
SAYING = re.compile(r"\b(say|says|said|tell|tells|told|hear|hears|heard|speak|anew)\b")


def text(module: Path) -> str:
    return (WEB / module).read_text("utf-8")


def imports(module: Path) -> list[Path]:
    found = re.findall(r'(?:from|import) "(\.[\w./-]+)"', text(module))
    return [Path(os.path.normpath(module.parent / name)) for name in found]


def rank(module: Path) -> int:
    """Height of a module: words, then language and api, then parts, then views, then the app."""
    folder = module.parts[0]
    if folder in ("words", "vendor") or module.name.startswith("emotide"):
        return 0
    if module.name in ("language.js", "api.js"):
        return 1
    return {"parts": 2, **dict.fromkeys(VIEWS, 3)}.get(folder, 4)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_lower_ranks_or_its_own_folder(module: Path) -> None:
    for other in imports(module):
        same = module.parts[0] == other.parts[0] and len(module.parts) > 1
        app = rank(module) == rank(other) == 4
        assert same or app or rank(other) < rank(module), f"{module} imports {other}"


def layer(module: Path) -> int:
    """Height of a module in recordings: transfer, then result, then the view's own modules."""
    names = {"transfer": 0, "result": 2, "messages.js": 1, "log.js": 1}
    return names.get(module.parts[1], 3)


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[0] == "recordings"], ids=str)
def test_in_recordings_the_view_imports_results_and_these_transfers(module: Path) -> None:
    for other in imports(module):
        if other.parts[0] == "recordings":
            same = layer(other) == layer(module)
            assert same or layer(other) < layer(module), f"{module} imports {other}"


def test_no_module_imports_itself_through_others() -> None:
    state: dict[Path, str] = {}

    def visit(module: Path, path: tuple[Path, ...]) -> None:
        assert state.get(module) != "open", " → ".join(map(str, (*path, module)))
        if module in state:
            return
        state[module] = "open"
        for other in imports(module):
            if "vendor" not in other.parts:
                visit(other, (*path, module))
        state[module] = "done"

    for module in MODULES:
        visit(module, ())
    assert len(state) == len(MODULES)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_comments_begin_with_a_verb_or_a_noun(module: Path) -> None:
    """As docstrings do (`CONTRIBUTING.md`): an imperative for functions, else a noun phrase."""
    wrong = []
    for comment, subject in COMMENT.findall(text(module)):
        first = comment.replace("*", " ").split()[0].strip("`\"',.:;()").lower()
        function = FUNCTION.match(subject) is not None and "class " not in subject
        constructor = subject.startswith("constructor(")
        if first in BANNED or (function and not constructor and first in NO_VERB):
            wrong.append(" ".join(comment.replace("*", " ").split())[:80])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[0] != "words"], ids=str)
def test_names_and_comments_have_no_conversation(module: Path) -> None:
    """Half of the functions were called say, tell or hear, whatever they did."""
    code = re.sub(r'"[^"\n]*"', '""', text(module))
    assert not SAYING.findall(code)
