"""Globs of filters match as `fnmatch` does, whether they are compiled or not."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.delivery import globs
from stream.delivery.globs import Globs

ALPHABET = st.sampled_from("ab*?[]!-.")


@given(
    st.lists(st.text(ALPHABET, min_size=1, max_size=6), min_size=1, max_size=4),
    st.text(st.sampled_from("ab[]!-."), max_size=6),
)
def test_the_result_is_that_of_fnmatch(patterns: list[str], text: str) -> None:
    expected = any(fnmatchcase(text, pattern) for pattern in patterns)
    assert Globs(patterns).matches(text) is expected


@pytest.mark.parametrize("patterns", [["*"], ["call-1"], ["call-*"], ["x", "call-1", "y*"]])
def test_simple_patterns_are_not_compiled(
    patterns: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ever new globs, 128 a message, made a call of 3 s take 31.7 s: each was compiled."""

    def fails(pattern: str) -> None:
        raise AssertionError(f"{pattern} was compiled")

    monkeypatch.setattr(globs, "_compiled", fails)
    made = Globs(patterns)
    assert list(made.compile()) == []
    assert made.matches("call-1")
    assert made.matches("other") is (patterns == ["*"])


def test_one_pattern_is_compiled_in_each_step() -> None:
    steps = Globs(["a?", "b?", "c*", "d"]).compile()
    assert len(list(steps)) == 2


def test_compiled_patterns_are_shared() -> None:
    one, two = Globs(["sha[r]ed?"]), Globs(["x", "sha[r]ed?"])
    assert one.matches("shared1")
    assert two.matches("shared1")
    assert one._compiled is not None
    assert two._compiled is not None
    assert one._compiled[0] is two._compiled[0]


def test_the_cache_is_bounded() -> None:
    for number in range(2 * globs.CACHED):
        Globs([f"?{number}"]).matches("x")
    assert globs._compiled.cache_info().currsize == globs.CACHED
