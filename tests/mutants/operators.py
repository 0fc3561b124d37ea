"""Small changes of a module's source, each of which its tests should notice.

The operators are those of cosmic-ray, in five kinds, and a dropped call, which it lacks. Changes
that cannot be noticed are left out: in annotations (never evaluated) and in log calls. So are those
of a module's own constants (`LIMIT = 1000`), because a test that repeats a value shows nothing, of
decorators, and of the mark before keyword-only parameters.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.operators.provider import OperatorProvider

KINDS: Mapping[str, Sequence[str]] = {
    "comparison": (
        *("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt", "Eq_NotEq", "NotEq_Eq"),
        *("Is_IsNot", "IsNot_Is"),
    ),
    "constant": ("NumberReplacer", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    "condition": (
        *("AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ZeroIterationForLoop"),
        *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer"),
    ),
    "arithmetic": ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Add"),
    "call": ("DropCall",),
}
"""Operators by kind; a sample has as many of each kind as the module allows."""


class DropCall(Operator):  # type: ignore[misc]
    """An operator that replaces a call whose result is not used with `pass`."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the place of the call that the statement `node` consists of, if it does."""
        if node.type == "simple_stmt" and _is_call(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return `node` without its call."""
        prefix = node.children[0].get_first_leaf().prefix
        nothing = parso.parse("pass").children[0]
        nothing.prefix = prefix
        node.children[0] = nothing
        return node

    @classmethod
    def examples(cls) -> Sequence[Example]:
        """Return an example of the change."""
        return (Example("f(1)\n", "pass\n"),)


def _is_call(node: Any) -> bool:
    while node.type == "atom_expr" and node.children[0].type == "keyword":  # await
        node = node.children[1]
    if node.type not in ("atom_expr", "power") or node.children[-1].type != "trailer":
        return False
    text = node.get_code(include_prefix=False)
    return node.children[-1].children[0].value == "(" and not text.startswith(("log.", "super()"))


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed module: its kind, source, and the lines that differ."""

    kind: str
    source: str
    line: int
    before: str
    after: str


def _operators(kind: str) -> Iterator[Operator]:
    provider = OperatorProvider()
    names = list(provider)
    for wanted in KINDS[kind]:
        if wanted == "DropCall":
            yield DropCall()
            continue
        found = [n for n in names if n == wanted or n.endswith(f"Operator_{wanted}")]
        assert len(found) == 1, (wanted, found)
        yield provider[found[0]]()


def mutants(source: str, count: int, seed: int = 0) -> list[Mutant]:
    """Return at most `count` different mutants of a module, evenly over the kinds."""
    choose = random.Random(seed)
    nodes = list(ast_nodes(get_ast(source)))
    places: dict[str, list[tuple[Operator, int]]] = {}
    for kind in KINDS:
        found = [
            (operator, number)
            for operator in _operators(kind)
            for number in range(sum(len(list(operator.mutation_positions(n))) for n in nodes))
        ]
        choose.shuffle(found)
        places[kind] = found
    original = _meaning(source)
    chosen: dict[str, Mutant] = {}
    while len(chosen) < count and any(places.values()):
        for kind, left in places.items():
            while left and len(chosen) < count:
                operator, number = left.pop()
                changed = mutate_code(source, operator, number)
                if changed is None or changed in chosen:
                    continue
                if _meaning(changed) in (None, original):
                    continue
                mutant = _mutant(kind, source, changed)
                if mutant.before != "*," and not re.match(
                    r"@|(_?[A-Z][A-Z0-9_]*(, )?)+(: [\w\[\], ]+)? = ", mutant.before
                ):
                    chosen[changed] = mutant
                    break
    return list(chosen.values())


def _mutant(kind: str, source: str, changed: str) -> Mutant:
    pairs = zip(source.splitlines(), changed.splitlines(), strict=False)
    for number, (before, after) in enumerate(pairs, 1):
        if before != after:
            return Mutant(kind, changed, number, before.strip(), after.strip())
    raise AssertionError("equal sources")


def _meaning(source: str) -> str | None:
    """Return the code without what is never evaluated; None if it is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            node.args, node.keywords = [], []
    return ast.dump(tree)
