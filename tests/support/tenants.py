"""A server in this process with keys of three tenants, and of two that watch others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stream.config import Config
from stream.recordings.background import BackgroundJob
from stream.recordings.upload import Upload
from stream.server.access.auth import make_key
from stream.tenants import DEFAULT, Principal
from tests.support.in_process import InProcess, Peer
from tests.support.utterances import talk

NAMES = ("plain", "acme", "acme2", "globex", "both", "ops")
KEYS = {name: make_key() for name in NAMES}
TENANT = {"acme": "acme", "acme2": "acme", "globex": "globex", "both": "globex"}
WATCHED = {"both": ["acme"], "ops": ["*"]}
CALL = "call-1"


class TenantServer(InProcess):
    """The server; without `keys` everything is of one tenant."""

    def __init__(self, folder: Path, keys: bool = True, **limits: Any) -> None:
        tables = {
            name: {
                "sha256": digest,
                "tenant": TENANT.get(name, DEFAULT),
                "tenants": WATCHED.get(name, []),
            }
            for name, (_, digest) in KEYS.items()
        }
        config = Config.model_validate(
            {
                "files": {"folder": folder / "outputs", "max_clients": 4},
                "auth": {"keys": tables if keys else {}},
                "limits": limits,
            }
        )
        super().__init__(config, {name: secret for name, (secret, _) in KEYS.items()})

    async def call(self, key: str, stream_id: str = CALL, options: str = "") -> Peer:
        """Start a stream and send some speech."""
        peer = self.connect(
            f"/v1/stream?sample_rate=16000&stream_id={stream_id}&tag=q:1{options}", key
        )
        await peer.event("session.created")
        peer.handler.received(talk(1.5))
        await peer.event("emotion.score")
        return peer

    async def listening(self, key: str, **fields: Any) -> Peer:
        """Return a subscriber with one subscription."""
        peer = self.connect("/v1/subscribe", key)
        peer.say("subscribe", **fields)
        await peer.event("subscribed")
        return peer

    async def ask(self, key: str, method: str, path: str) -> tuple[int, Any]:
        """Return status and body of an HTTP request."""
        response = await self.request(key, method, path)
        is_json = response.content and "json" in response.headers["content-type"]
        return response.status_code, response.json() if is_json else response.text

    async def recording(self, key: str) -> tuple[BackgroundJob, str]:
        """Keep a recording of a key, with its result; return it and the address of the result."""
        principal = Principal(key, TENANT.get(key, DEFAULT)) if key else Principal()
        upload = await Upload.open("a.wav", None, self.config.files.max_mb, self.disk, self.store)
        await upload.close()
        (upload.pending.folder / "result.json").write_text("{}")
        stored = self.store.publish(upload.pending, ["result.json"], "a", principal.owner)
        job = BackgroundJob(upload, principal)
        job.status, job.expires = "done", stored.expires
        job.ended.set()
        self.jobs._ended[job.id] = job
        return job, f"/v1/results/{stored.id}/result.json"
