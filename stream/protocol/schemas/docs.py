"""Docstrings of types, read from the source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any


class Docs:
    """Docstrings of one module. That of an alias or of a field is the string after it."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        tree = ast.parse(inspect.getsource(module))
        self.aliases = dict(_after_names(tree.body))
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def of_class(self, name: str) -> str:
        """Return the docstring of a class, "" without one."""
        return _joined(ast.get_docstring(self._classes[name]) or "")

    def of_field(self, name: str, field: str) -> str:
        """Return the docstring of a field in the body of a class, "" without one."""
        return dict(_after_names(self._classes[name].body)).get(field, "")

    def bases(self, name: str) -> list[Any]:
        """Return the bases of a class. Before Python 3.12 a TypedDict does not have its own."""
        names = [base.id for base in self._classes[name].bases if isinstance(base, ast.Name)]
        return [getattr(self._module, base) for base in names]


def _after_names(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
    name = None
    for statement in body:
        match statement:
            case ast.Expr(ast.Constant(str(text))) if name is not None:
                yield name, _joined(text)
                name = None
            case ast.Assign([ast.Name(assigned)]) | ast.AnnAssign(ast.Name(assigned)):
                name = assigned
            case _:
                name = None


def _joined(text: str) -> str:
    return " ".join(text.split())
