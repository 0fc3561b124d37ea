"""Lists of the mutation tests."""

from __future__ import annotations

from pathlib import Path

from tests.mutants.modules import EQUIVALENT, TESTS

ROOT = Path(__file__).parents[1]


def test_every_module_and_test_that_is_listed_exists() -> None:
    """`make mutants` ended at a module whose listed tests had never existed."""
    listed = {*TESTS, *EQUIVALENT, *(test for tests in TESTS.values() for test in tests)}
    assert not [path for path in sorted(listed) if not (ROOT / path).is_file()]
