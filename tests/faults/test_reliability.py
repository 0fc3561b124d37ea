"""docs/reliability.md names tests and commands: each must exist, and each row must have one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text("utf-8")
ROWS = range(1, 35)

NAMED = sorted(set(re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", TEXT)))
COMMANDS = sorted(set(re.findall(r"`make ([a-z]+)", TEXT)))
MODULES = sorted(set(re.findall(r"`python -m ([\w.]+)", TEXT)))


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


EXISTING = {path.relative_to(ROOT): names_in(path) for path in ROOT.glob("tests/**/test_*.py")}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    if path:
        assert name in EXISTING[Path(path)]
    else:
        assert any(name in tests for tests in EXISTING.values()), name


def test_every_row_has_a_test_or_a_command() -> None:
    table = {
        int(match[1]): match[0] for match in re.finditer(r"^\| (\d+) \|.*$", TEXT, re.MULTILINE)
    }
    assert table.keys() >= set(ROWS), set(ROWS) - table.keys()
    for row in ROWS:
        assert re.search(r"`(tests/|test_|make |python -m )", table[row]), f"row {row} has no test"


@pytest.mark.parametrize("target", COMMANDS)
def test_a_named_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_a_named_module_exists(module: str) -> None:
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
