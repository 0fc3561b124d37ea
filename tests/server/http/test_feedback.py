"""Labels from listeners over HTTP, in process: live streams and recordings of several tenants."""

from __future__ import annotations

import csv
import io
import wave
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from stream.config import Config
from stream.errors import ConfigError
from stream.feedback.service import feedback_of
from stream.protocol.messages import Analysis, SessionConfig
from stream.server.access.auth import make_key
from stream.server.http.feedback_requests import BODY_BYTES
from stream.server.http.info import info
from stream.sessions.session import Session
from stream.tenants import Principal
from tests.support.audio_files import record
from tests.support.in_process import InProcess
from tests.support.posting import check
from tests.support.scheduling import until
from tests.support.sessions import FakeConnection
from tests.support.utterances import speech

KEYS = {
    "acme": ("acme", ["stream", "subscribe", "files", "feedback"]),
    "acme-team": ("acme", ["feedback"]),
    "acme-calls": ("acme", ["stream", "subscribe", "files"]),
    "globex": ("globex", ["files", "feedback"]),
}
SECRETS = {name: make_key() for name in KEYS}
CALL = "4930123456"


class Server(InProcess):
    """The server with its live streams."""

    def __init__(self, folder: Path, **feedback: Any) -> None:
        self.folder = folder
        keys = {
            name: {"sha256": SECRETS[name][1], "tenant": tenant, "scopes": scopes}
            for name, (tenant, scopes) in KEYS.items()
        }
        config = Config.model_validate(
            {
                "files": {"folder": folder / "outputs"},
                "auth": {"keys": keys},
                "limits": {"ahead_s": 1e9},
                "privacy": {"audit_log": folder / "audit.jsonl"},
                "feedback": {"enabled": True, "folder": folder / "feedback", **feedback},
            }
        )
        super().__init__(config, {name: secret for name, (secret, _) in SECRETS.items()})

    async def mark(self, key: str, **fields: Any) -> httpx2.Response:
        body = {"channel": 0, "utterance": 0, "label": "sad", **fields}
        return await self.request(key, "POST", "/v1/feedback", json=body)

    async def manifest(self, key: str) -> list[dict[str, str]]:
        response = await self.request(key, "GET", "/v1/feedback")
        assert response.headers["content-type"].startswith("text/csv")
        return list(csv.DictReader(io.StringIO(response.text)))

    async def call(
        self, key: str = "acme", stream_id: str = CALL, **analysis: Any
    ) -> tuple[Session, FakeConnection]:
        """Start a stream in which two utterances were scored."""
        tenant = KEYS[key][0]
        session, connection = await self.sessions.open(
            request=SessionConfig(stream_id=stream_id, analysis=Analysis(**analysis)),
            principal=Principal(key, tenant),
        )
        session.audio(speech().tobytes())
        await until(lambda: connection.types().count("emotion.segment") == 2)
        return session, connection

    async def recording(self, key: str = "acme", **options: str) -> dict[str, Any]:
        """Analyse a recording; return the answer with its result."""
        content = record(self.folder / "talk.wav").read_bytes()
        path = "/v1/files?wait=60&name=talk.wav"
        path += "".join(f"&{name}={value}" for name, value in options.items())
        response = await self.request(key, "POST", path, content=content)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path).running() as started:
        yield started


async def test_an_utterance_of_a_live_stream_is_marked_and_exported(server: Server) -> None:
    session, _ = await server.call()
    response = await server.mark("acme", stream_id=CALL, utterance=1, label="fearful")
    assert response.status_code == 201
    mark = response.json()
    check("Feedback", mark)
    assert (mark["label"], mark["channel"], mark["utterance"]) == ("fearful", 0, 1)
    assert mark["model"] == {"id": "fast", "revision": "1"}
    [row] = await server.manifest("acme-team")
    assert row["id"] == mark["id"]
    assert row["speaker"] == mark["speaker"]
    assert CALL not in str(row), "a stream id may be a telephone number"
    # The call has ended, but the listener has not.
    await session.finish("completed", 5.0)
    again = await server.mark("acme", stream_id=CALL, session_id=session.id, utterance=1)
    assert again.status_code == 200
    assert (await server.manifest("acme"))[0]["label"] == "sad"


async def test_features_that_nobody_asked_for_are_not_sent(server: Server) -> None:
    """With feedback on, embeddings are computed for every stream: 1 kB of each event otherwise."""
    _, connection = await server.call(frames=True)
    scored = [event for event in connection.events if event["type"].startswith("emotion.")]
    assert len(scored) >= 4
    for event in scored:
        assert "embedding" not in event
        assert "embeddings" not in event.get("frames", {})
    _, connection = await server.call(stream_id="other", frames=True, embeddings=True)
    events = {event["type"]: event for event in connection.events}
    assert events["emotion.segment"]["embedding"]
    assert events["emotion.score"]["frames"]["embeddings"]
    assert (await server.mark("acme", stream_id="other")).status_code == 201


async def test_the_features_are_the_mean_of_the_utterance(server: Server) -> None:
    _, connection = await server.call(embeddings=True)
    mark = (await server.mark("acme", stream_id=CALL)).json()
    sent = next(e for e in connection.events if e["type"] == "emotion.segment")["embedding"]
    stored = np.load(server.folder / "feedback" / "acme" / f"{mark['id']}.npy")
    assert list(stored.shape) == sent["shape"]
    assert stored.dtype == np.float32


async def test_a_recording_is_marked_by_the_key_that_sent_it(server: Server) -> None:
    body = await server.recording()
    names = [file["name"] for file in body["files"]]
    assert "embedding.npy" not in names, "features are kept for marks, not for downloads"
    assert "embeddings_utterances.npy" not in names
    url = body["files"][0]["url"].rpartition("/")[0]
    hidden = await server.request("acme", "GET", f"{url}/.utterances.npz")
    assert hidden.status_code == 404
    utterance = body["result"]["channels"][0]["utterances"][1]
    response = await server.mark("acme", recording_id=body["file_id"], utterance=1, speaker="Ann")
    mark = response.json()
    assert response.status_code == 201
    assert mark["audio_start_ms"] == pytest.approx(1000 * utterance["start_s"], abs=20)
    assert mark["audio_end_ms"] == pytest.approx(1000 * utterance["end_s"], abs=20)
    assert mark["speaker"] == "Ann"
    for key in ("acme-team", "globex"):
        refused = await server.mark(key, recording_id=body["file_id"])
        assert refused.status_code == 404, "another key, another recording"
    unknown = await server.mark("acme", recording_id=body["file_id"], utterance=99)
    assert unknown.status_code == 404
    assert "unknown utterance" in unknown.json()["error"]
    await server.request("acme", "DELETE", f"/v1/files/{body['file_id']}")
    assert (await server.mark("acme", recording_id=body["file_id"])).status_code == 404
    assert len(await server.manifest("acme")) == 1, "a mark outlives its recording"


async def test_a_recording_that_an_earlier_process_analysed_can_be_marked(server: Server) -> None:
    body = await server.recording()
    server.store._results.clear()
    server.store.sweep()
    response = await server.mark("acme", recording_id=body["file_id"])
    assert response.status_code == 201, response.text


async def test_nothing_crosses_tenants(server: Server) -> None:
    await server.call("acme")
    mark = (await server.mark("acme", stream_id=CALL)).json()
    assert (await server.mark("globex", stream_id=CALL)).status_code == 404
    assert await server.manifest("globex") == []
    archive = (await server.request("globex", "GET", "/v1/feedback?format=zip")).content
    assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == ["manifest.csv"]
    one = f"/v1/feedback/{mark['id']}"
    assert (await server.request("globex", "DELETE", one)).status_code == 404
    for query in ("all=true", f"stream_id={CALL}"):
        response = await server.request("globex", "DELETE", f"/v1/feedback?{query}")
        assert response.json() == {"deleted": 0}
    assert len(await server.manifest("acme")) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_key_needs_the_scope(server: Server, method: str) -> None:
    for path in ("/v1/feedback", "/v1/feedback/fb_0"):
        response = await server.request("acme-calls", method, path)
        assert response.status_code == 403
        assert 'lacks the scope "feedback"' in response.json()["error"]


async def test_marks_are_deleted_one_by_one_by_stream_and_all(server: Server) -> None:
    await server.call()
    await server.call(stream_id="other")
    first = (await server.mark("acme", stream_id=CALL)).json()
    await server.mark("acme", stream_id=CALL, utterance=1)
    await server.mark("acme", stream_id="other")
    path = f"/v1/feedback/{first['id']}"
    assert (await server.request("acme-team", "DELETE", path)).status_code == 204
    assert (await server.request("acme-team", "DELETE", path)).status_code == 404
    params = {"stream_id": CALL}
    by_stream = await server.request("acme", "DELETE", "/v1/feedback", params=params)
    assert by_stream.json() == {"deleted": 1}
    refused = await server.request("acme", "DELETE", "/v1/feedback")
    assert refused.status_code == 400, "nothing is deleted by a forgotten parameter"
    assert "name one of" in refused.json()["error"]
    everything = await server.request("acme", "DELETE", "/v1/feedback?all=true")
    assert everything.json() == {"deleted": 1}
    assert await server.manifest("acme") == []
    assert [details["deleted"] for details in server.audited("feedback.delete")] == [1, 1, 1]


async def test_audio_is_kept_only_if_the_operator_says_so_and_audited_each_time(
    tmp_path: Path,
) -> None:
    async with Server(tmp_path / "on", audio=True).running() as server:
        _, connection = await server.call()
        body = await server.recording()
        live = (await server.mark("acme", stream_id=CALL)).json()
        recorded = (await server.mark("acme", recording_id=body["file_id"])).json()
        assert live["audio"]
        assert recorded["audio"]
        content = (await server.request("acme", "GET", "/v1/feedback?format=zip")).content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for mark in (live, recorded):
                with wave.open(io.BytesIO(archive.read(f"{mark['id']}.wav"))) as clip:
                    length = mark["audio_end_ms"] - mark["audio_start_ms"]
                    assert clip.getnframes() / 16 == pytest.approx(length, abs=20)
                    samples = np.frombuffer(clip.readframes(10**6), "<i2")
                    assert np.abs(samples).max() > 1000, "speech, not a pause"
        assert [details["audio"] for details in server.audited("feedback.mark")] == [True, True]
        assert all("audio" not in event for event in connection.events)
        assert info(server.config, None, None, login=True)["privacy"]["audio_kept"]
    async with Server(tmp_path / "off").running() as server:
        await server.call()
        assert not (await server.mark("acme", stream_id=CALL)).json()["audio"]
        assert not list((tmp_path / "off" / "feedback").rglob("*.wav"))
        assert [details["audio"] for details in server.audited("feedback.mark")] == [False]
        assert not info(server.config, None, None, login=True)["privacy"]["audio_kept"]


async def test_the_audit_log_names_tenant_and_key_but_no_stream_and_no_label(
    server: Server,
) -> None:
    await server.call()
    await server.mark("acme", stream_id=CALL, label="disgusted")
    await server.manifest("acme-team")
    [marked], [exported] = server.audited("feedback.mark"), server.audited("feedback.export")
    assert (marked["tenant"], marked["key"], marked["of"]) == ("acme", "acme", "stream")
    assert (exported["tenant"], exported["key"]) == ("acme", "acme-team")
    assert "disgusted" not in str(marked)
    assert CALL not in str(marked)


async def test_an_objection_forgets_the_utterances_of_the_stream(server: Server) -> None:
    """A speaker who objects to the analysis must not be labelled afterwards."""
    session, _ = await server.call()
    await session.finish("objected", 5.0)
    assert (await server.mark("acme", stream_id=CALL)).status_code == 404
    assert server.feedback is not None
    assert server.feedback.recent.bytes("acme") == 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"label": "cheerful"}, "label: "),
        ({"recording_id": "file_1"}, "either recording_id or stream_id"),
        ({"stream_id": None}, "either recording_id or stream_id"),
        ({"utterance": -1}, "utterance: "),
        ({"utterance": "1"}, "utterance: "),
        ({"channel": 99}, "channel: "),
        ({"speaker": "=HYPERLINK(1)"}, "speaker: "),
        ({"emotion": "sad"}, "emotion: is not a known key"),
    ],
)
async def test_a_bad_request_is_refused_by_field(
    server: Server, fields: dict[str, Any], named: str
) -> None:
    body = {"stream_id": CALL, "channel": 0, "utterance": 0, "label": "sad", **fields}
    response = await server.request("acme", "POST", "/v1/feedback", json=body)
    assert response.status_code == 400
    assert named in response.json()["error"]


async def test_a_body_that_is_no_json_or_too_large_is_refused(server: Server) -> None:
    broken = await server.request("acme", "POST", "/v1/feedback", content=b"{")
    assert broken.status_code == 400
    assert "must be JSON" in broken.json()["error"]
    large = await server.request("acme", "POST", "/v1/feedback", content=b" " * (BODY_BYTES + 1))
    assert large.status_code == 413


async def test_a_full_store_says_how_to_make_room(tmp_path: Path) -> None:
    async with Server(tmp_path, max_mb=0.01).running() as server:
        await server.call()
        assert (await server.mark("acme", stream_id=CALL)).status_code == 201
        full = await server.mark("acme", stream_id=CALL, utterance=1)
        assert full.status_code == 507
        assert "feedback.max_mb" in full.json()["error"]


async def test_without_feedback_nothing_is_kept_and_the_answer_says_so(tmp_path: Path) -> None:
    async with Server(tmp_path, enabled=False).running() as server:
        await server.call()
        body = await server.recording()
        for response in (
            await server.mark("acme", stream_id=CALL),
            await server.mark("acme", recording_id=body["file_id"]),
            await server.request("acme", "GET", "/v1/feedback"),
            await server.request("acme", "DELETE", "/v1/feedback?all=true"),
        ):
            assert response.status_code == 404
            assert "feedback.enabled" in response.json()["error"]
        assert not list(tmp_path.rglob("*.npz"))
        assert not (tmp_path / "feedback").exists()


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = Config.model_validate({"feedback": {"enabled": True, "folder": tmp_path / "file/x"}})
    with pytest.raises(ConfigError, match=r"feedback\.folder: cannot write"):
        feedback_of(config.feedback)
