"""Plain English: docstrings that begin as `CONTRIBUTING.md` asks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("stream", "client", "bench", "training", "tests", "emotide", "examples")
SOURCES = [ROOT / "server.py", *sorted(p for f in FOLDERS for p in (ROOT / f).rglob("*.py"))]

# fmt: off
BANNED = {
    "what", "whatever", "whose", "who", "whoever", "whom", "why", "how", "where", "when", "whether",
    "everybody", "everyone", "everything", "nobody", "somebody", "someone", "anybody",
}
NO_VERB = {
    "a", "an", "the", "this", "that", "these", "those", "one", "all", "each", "every", "some", "no",
    "its", "their", "our",
}
# fmt: on
Node = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(path: Path) -> Iterator[tuple[Node, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, Node):
            text = ast.get_docstring(node)
            if text:
                yield node, text


def first_word(text: str) -> str:
    return text.split()[0].strip("`\"',.:;()").lower()


def called(node: Node) -> str:
    return getattr(node, "name", "module") + f" (line {getattr(node, 'lineno', 1)})"


def decorators(node: Node) -> str:
    return " ".join(ast.unparse(item) for item in getattr(node, "decorator_list", ()))


def attribute_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every string that describes the assignment before it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        body = getattr(node, "body", None)
        for before, after in pairwise(body if isinstance(body, list) else ()):
            if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                value = getattr(after.value, "value", None)
                if isinstance(value, str):
                    yield after.lineno, value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_of_attributes_name_the_thing(path: Path) -> None:
    """Fifty of them began with "Whether" or "Where"; only functions and classes were checked."""
    wrong = [
        f"line {line}: {text.splitlines()[0]}"
        for line, text in attribute_texts(path)
        if first_word(text) in BANNED
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    """A tenth of the docstrings began with "What" and the like, and had to be read twice."""
    wrong = []
    for node, text in docstrings(path):
        word = first_word(text)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        noun = not function or "property" in decorators(node) or path.parts[-2:-1] == ("tests",)
        story = function and getattr(node, "name", "").startswith("test_")
        if word in BANNED or (
            word in NO_VERB and not noun and not story and "tests" not in path.parts
        ):
            wrong.append(f"{called(node)}: {text.splitlines()[0]}")
    assert not wrong, "\n".join(wrong)
