"""Scopes of paths, and paths as the log has them; `test_router` has the decisions on requests."""

from __future__ import annotations

import re

import pytest

from stream.server.access.gate import redacted, scope_of


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/files", "files"),
        ("/v1/results/id/result.json", "files"),
        ("/v1/streams", "subscribe"),
        ("/v1/streams/call-1/frames", "subscribe"),
        ("/metrics", "metrics"),
        ("/", None),
        ("/healthz", None),
        ("/v1/info", None),
        ("/v1/streamsx", None),
    ],
)
def test_scope_of_a_path(path: str, scope: str | None) -> None:
    assert scope_of(path) == scope


def test_ids_of_results_are_redacted() -> None:
    assert redacted("/v1/results/id/result.json") == "/v1/results/"
    assert redacted("/v1/files") == "/v1/files"


def test_ids_of_streams_are_hashed_and_paths_shortened() -> None:
    """A telephone number in /v1/streams/{id} went into the log, up to 7 kB a line."""
    path = redacted("/v1/streams/+49301234567/frames")
    assert re.fullmatch(r"/v1/streams/#[0-9a-f]{8}/frames", path)
    assert redacted("/v1/streams/+49301234567/frames") == path, "records can be related"
    assert redacted("/v1/streams/+49301234568/frames") != path
    assert len(redacted("/v1/streams/" + "9" * 7000 + "/" + "9" * 7000)) < 50
    assert len(redacted("/" + "9" * 7000)) <= 64
