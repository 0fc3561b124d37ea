"""Recordings over HTTP: upload, wait, state, cancellation, ownership."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from stream.server.access.auth import make_key
from tests.support.odd_files import tracks
from tests.support.posting import (
    Answer,
    Part,
    answer,
    gated,
    opened,
    post,
    send,
    wait_for,
    wait_until_running,
)
from tests.support.running import Server, running_server
from tests.support.utterances import RATE, speech

# -- upload and result -------------------------------------------------------------------------


def test_a_form_is_analysed_and_answered_with_the_result(server: Server, file: Part) -> None:
    """The command of the README: curl -F file=@call.flac 'http://.../v1/files?wait=60'."""
    before = server.metric("emotide_files_total", outcome="done")
    done = post(server, "?wait=60", file)
    assert done.status == 200
    assert done.body["status"] == "done"
    assert done.body["name"] == done.body["result"]["file"]["name"] == "call.mp3"
    assert done.body["result"]["file"]["bytes"] == len(file[2])
    assert done.body["result"]["channels"][0]["scores"]
    assert done.headers["location"] == done.body["url"]
    assert done.headers["cache-control"] == "no-store"
    [json] = [item for item in done.body["files"] if item["name"] == "result.json"]
    status, _, content = server.get(json["url"])
    assert (status, len(content)) == (200, json["bytes"])
    assert orjson.loads(content)["channels"] == done.body["result"]["channels"]
    assert send(server, "GET", done.body["url"]).body == done.body
    wait_for(lambda: server.metric("emotide_files_active") == 0)
    assert server.metric("emotide_files_total", outcome="done") == before + 1


@pytest.mark.parametrize("chunked", [False, True])
def test_the_bytes_alone_are_analysed_like_a_form(
    server: Server, audio: bytes, file: Part, chunked: bool
) -> None:
    expected = post(server, "?wait=60", file).body["result"]["channels"]
    query = "?wait=60&name=a%20b.mp3&granularity=frame&language=de"
    if chunked:
        head = f"POST /v1/files{query} HTTP/1.1\nTransfer-Encoding: chunked\r\n\r\n"
        pieces = [audio[at : at + 5000] for at in range(0, len(audio), 5000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        with opened(server, head, body + b"0\r\n\r\n") as sock:
            sock.settimeout(60)
            done = answer(sock)
    else:
        headers = {"Content-Type": "audio/mpeg"}
        done = send(server, "POST", f"/v1/files{query}", audio, headers)
    assert done.status == 200
    assert done.body["result"]["channels"] == expected
    assert done.body["name"] == "a b.mp3"
    assert done.body["result"]["options"]["granularity"] == "frame"
    assert done.body["result"]["options"]["language"] == "de"


def test_without_a_name_a_recording_has_a_default_name(server: Server, audio: bytes) -> None:
    assert send(server, "POST", "/v1/files?wait=60", audio).body["name"] == "recording"
    assert post(server, "?wait=60", ("file", None, audio)).body["name"] == "recording"
    named = post(server, "?wait=60&name=other.mp3", ("file", "call.mp3", audio))
    assert named.body["name"] == "other.mp3", "the query overrides the form"


@pytest.mark.parametrize("first", ["options", "file"])
def test_the_options_of_a_form_override_those_of_the_query(
    server: Server, file: Part, first: str
) -> None:
    options: Part = ("options", None, b'{"granularity": "frame", "disclosed": true}')
    parts = [options, file] if first == "options" else [file, options]
    done = post(server, "?wait=60&granularity=utterance&language=de", *parts)
    assert done.status == 200
    found = done.body["result"]["options"]
    assert (found["granularity"], found["language"]) == ("frame", "de")


def test_without_wait_the_answer_is_202_and_the_result_is_fetched_later(
    tmp_path: Path, file: Part
) -> None:
    with gated(tmp_path) as (server, gate):
        begun = time.monotonic()
        sent = post(server, "", file)
        assert (sent.status, sent.body["status"]) == (202, "queued")
        assert sent.headers["location"] == sent.body["url"]
        assert "result" not in sent.body
        wait_until_running(server, sent.body["url"])

        waited = post(server, "?wait=0.3", file)
        assert (waited.status, waited.body["status"]) == (202, "running")
        polled = send(server, "GET", sent.body["url"] + "?wait=0.3")
        assert (polled.status, polled.body["status"]) == (200, "running")
        assert polled.body["log"][0]["code"] == "decoded"
        assert 0.6 <= time.monotonic() - begun < 60

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(send, server, "GET", sent.body["url"] + "?wait=60")
            gate.open()
            assert waiting.result(60).body["status"] == "done"
        assert send(server, "GET", waited.body["url"] + "?wait=60").body["status"] == "done"


def test_a_recording_that_fails_is_422_and_leaves_its_error(server: Server, folder: Path) -> None:
    before = set(folder.iterdir()) if folder.exists() else set()
    failed = post(server, "?wait=30", ("file", "notes.txt", b"no audio at all " * 100))
    assert failed.status == 422
    assert (failed.body["code"], failed.body["retryable"]) == ("not_audio", False)
    assert failed.body["error"].startswith("the contents of the file are not audio")
    later = send(server, "GET", failed.body["url"])
    assert later.status == 200, "the request for the state succeeds"
    assert later.body == failed.body
    assert later.body["status"] == "failed"
    assert set(folder.iterdir()) == before
    assert server.metric("emotide_files_total", outcome="not_audio") >= 1


# -- cancellation and ownership ----------------------------------------------------------------


def test_delete_cancels_a_recording_and_then_deletes_its_record(tmp_path: Path, file: Part) -> None:
    with gated(tmp_path) as (server, gate):
        sent = post(server, "", file)
        url = sent.body["url"]
        wait_until_running(server, url)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(post, server, "?wait=30", file)
            wait_for(lambda: server.metric("emotide_files_active") == 2)
            cancelled = send(server, "DELETE", url)
            assert (cancelled.status, cancelled.body) == (204, None)
            state = send(server, "GET", url).body
            assert (state["status"], state["code"]) == ("cancelled", "cancelled")
            assert send(server, "DELETE", url).status == 204
            assert send(server, "DELETE", url).status == 404
            assert send(server, "GET", url).status == 404
            gate.open()
            assert waiting.result(60).status == 200, "the other recording is not affected"
        assert len([*(tmp_path / "o").iterdir()]) == 1
        assert server.metric("emotide_files_total", outcome="cancelled") == 1


def test_delete_removes_a_result(server: Server, folder: Path, file: Part) -> None:
    done = post(server, "?wait=60", file)
    urls = [item["url"] for item in done.body["files"]]
    before = len([*folder.iterdir()])
    assert {server.get(url, "HEAD")[0] for url in urls} == {200}
    assert send(server, "DELETE", done.body["url"]).status == 204
    assert {server.get(url, "HEAD")[0] for url in urls} == {404}
    assert send(server, "GET", done.body["url"]).status == 404
    assert len([*folder.iterdir()]) == before - 1


def test_a_recording_belongs_to_the_key_that_sent_it(tmp_path: Path, file: Part) -> None:
    secrets = {name: make_key() for name in ("owner", "other", "listener")}
    keys = ", ".join(
        f'{name} = {{sha256 = "{digest}", scopes = ["{scope}"]}}'
        for (name, (_, digest)), scope in zip(
            secrets.items(), ("files", "files", "subscribe"), strict=True
        )
    )

    def bearer(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {secrets[name][0]}"}

    settings = ("--set", f"files.folder={tmp_path / 'o'}", "--set", f"auth.keys={{{keys}}}")
    with running_server(*settings) as server:
        assert post(server, "", file).status == 401
        assert post(server, "", file, headers=bearer("listener")).status == 403
        done = post(server, "?wait=60", file, headers=bearer("owner"))
        assert done.status == 200
        url, result = done.body["url"], done.body["files"][0]["url"]

        def statuses(method: str, path: str) -> list[int]:
            return [server.get(path, method, bearer(name))[0] for name in secrets]

        assert statuses("GET", url) == [200, 404, 403]
        assert statuses("GET", result) == [200, 404, 403]
        assert [send(server, method, url).status for method in ("GET", "DELETE")] == [401, 401]
        assert send(server, "DELETE", url, headers=bearer("other")).status == 404
        assert send(server, "DELETE", url, headers=bearer("owner")).status == 204

        def refused() -> set[str]:
            return {x["path"] for x in server.lines if x["event"] == "request refused"}

        expected = {"/v1/files", "/v1/files/", "/v1/results/"}
        wait_for(lambda: refused() >= expected and done.body["file_id"][:17] in server.log())
        assert refused() == expected
        assert done.body["file_id"] not in server.log(), "without keys it is the only protection"


def test_recordings_are_recorded_in_the_audit_log(tmp_path: Path, file: Part) -> None:
    path = tmp_path / "audit.jsonl"
    with running_server(
        *("--set", f"files.folder={tmp_path / 'o'}", "--set", f"privacy.audit_log={path}")
    ) as server:
        done = post(server, "?wait=60&disclosed=true&roles=customer", file)
        post(server, "?loud=1", file)
    entries = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    [entry] = [entry for entry in entries if entry["event"] != "history.off"]
    del entry["ts"]
    assert entry == {
        "event": "file.start",
        "tenant": "default",
        "key": None,
        "file_id": done.body["file_id"][:17],
        "bytes": len(file[2]),
        "roles": ["customer"],
        "disclosed": True,
    }


def test_a_track_is_chosen_by_the_query_or_a_form(server: Server, tmp_path: Path) -> None:
    """The first of two tracks was taken, whichever the file marked, and no one could choose."""
    short = speech()[: 4 * RATE]
    two = tracks(tmp_path / "t.mkv", [short * 0, short], default=1).read_bytes()
    file: Part = ("file", "t.mkv", two)

    def track(answer: Answer) -> tuple[int, int, bool]:
        source = answer.body["result"]["file"]
        return source["track"], source["tracks"], "no_speech" in answer.body["result"]["hints"]

    assert track(post(server, "?wait=60", file)) == (2, 2, False)
    assert track(post(server, "?wait=60&track=1", file)) == (1, 2, True)
    assert track(post(server, "?wait=60", ("options", None, b'{"track": 1}'), file)) == (1, 2, True)
    answer = post(server, "?wait=60&track=3", file)
    assert (answer.status, answer.body["code"]) == (422, "unknown_track")
    assert answer.body["param"] == "options.track"
    assert post(server, "?track=-1", file).status == 422


# -- rules of alerts -----------------------------------------------------------------------------

RULE = "[[alerts.rules]]\nname = 'loud'\nlabel = 'angry'\nhorizon = 'window'\nabove = 0.0001\n"


def test_rules_in_the_options_are_tried(server: Server, file: Part) -> None:
    options = ("options", "", orjson.dumps({"rules": RULE}))
    done = post(server, "?wait=60", options, file)
    assert done.status == 200
    [trial] = done.body["result"]["alerts"]
    assert (trial["rule"], trial["count"]) == ("loud", len(trial["alerts"]))
    assert trial["alerts"]


def test_a_mistake_in_the_rules_is_named_before_the_recording_is_read(
    server: Server, file: Part
) -> None:
    options = ("options", "", orjson.dumps({"rules": RULE.replace("0.0001", "7")}))
    refused = post(server, "", options, file)
    assert refused.status == 422
    assert refused.body["param"] == "options.rules"
    assert refused.body["error"] == (
        "options.rules: rules.0: above is a share from 0 to 1 for this value"
    )
