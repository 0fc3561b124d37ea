"""Recordings over HTTP whose client disconnects, or whose server drains."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.posting import (
    Part,
    answer,
    gated,
    opened,
    post,
    send,
    wait_for,
    wait_until_running,
)
from tests.support.uploading import wait_until_empty


@pytest.mark.parametrize("stage", ["upload", "wait"])
def test_a_client_that_disconnects_cancels_its_recording(
    tmp_path: Path, audio: bytes, stage: str
) -> None:
    with gated(tmp_path) as (server, _):
        size = len(audio) + (1 if stage == "upload" else 0)
        head = f"POST /v1/files?wait=60 HTTP/1.1\nContent-Length: {size}\r\n\r\n"
        with opened(server, head, audio):
            wait_for(lambda: server.metric("emotide_files_active") == 1)
            assert len([*(tmp_path / "o").iterdir()]) == 1
            if stage == "wait":
                wait_for(lambda: [*(tmp_path / "o").glob("*/*.wav")])
        wait_for(lambda: server.metric("emotide_files_active") == 0)
        assert server.metric("emotide_files_total", outcome="cancelled") == 1
        wait_until_empty(tmp_path / "o")


def test_a_client_that_disconnects_while_it_polls_cancels_nothing(
    tmp_path: Path, file: Part
) -> None:
    with gated(tmp_path) as (server, gate):
        url = post(server, "", file).body["url"]
        wait_until_running(server, url)
        with opened(server, f"GET {url}?wait=60 HTTP/1.1\n\r\n"):
            time.sleep(0.2)
        time.sleep(0.2)
        assert send(server, "GET", url).body["status"] == "running"
        gate.open()
        assert send(server, "GET", url + "?wait=60").body["status"] == "done"


def test_a_drain_answers_waiting_requests_and_removes_files(tmp_path: Path, file: Part) -> None:
    """An upload, a POST and a GET that wait: all are answered 503, and nothing is left."""
    with gated(tmp_path) as (server, gate), contextlib.ExitStack() as stack:
        url = post(server, "", file).body["url"]
        wait_until_running(server, url)
        pool = stack.enter_context(ThreadPoolExecutor(2))
        waiting = [
            pool.submit(post, server, "?wait=60", file),
            pool.submit(send, server, "GET", url + "?wait=60"),
        ]
        head = "POST /v1/files HTTP/1.1\nContent-Length: 1000\r\n\r\n"
        upload = stack.enter_context(opened(server, head, b"x" * 100))
        wait_for(lambda: server.metric("emotide_files_active") == 3)
        server.signal()
        for response in [*(job.result(60) for job in waiting), answer(upload)]:
            assert (response.status, response.body["code"]) == (503, "draining")
            assert response.headers["retry-after"] == "1"
        gate.open()
        assert server.exit() == 0
        assert not server.non_json
        assert not [line for line in server.lines if line["level"] == "error"]
        assert not [*(tmp_path / "o").iterdir()]
