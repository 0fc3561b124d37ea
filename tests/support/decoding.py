"""The work of the decoder process, done in this one."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.audio.files.decode_worker import AUDIO, FAILED, HEADER, PROGRESS, Job, work
from stream.audio.files.findings import Findings
from stream.audio.files.undecodable import Undecodable


@dataclass
class Decoded:
    """All messages of one decoding."""

    info: dict[str, Any] = field(default_factory=dict)
    channels: int = 0
    identical: bool = False
    findings: Findings = field(default_factory=Findings)
    damaged: bool = False
    pcm: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 1), np.int16))
    shares: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 16_000


def worked(content: bytes, *, max_s: float = 7_200, track: int = 0) -> Decoded:
    """Decode the contents of a file. Raises `Undecodable`."""
    out, result = io.BytesIO(), Decoded()
    work(Job(max_s, track=track), io.BytesIO(content), out)
    messages, at, audio = out.getvalue(), 0, bytearray()
    fields: dict[str, Any] = {}
    while at < len(messages):
        kind, size = HEADER.unpack_from(messages, at)
        payload = messages[at + HEADER.size : at + HEADER.size + size]
        at += HEADER.size + size
        if kind == AUDIO:
            audio += payload
            continue
        body = json.loads(payload)
        if kind == FAILED:
            raise Undecodable(body["code"], body["message"], **body["values"])
        if kind == PROGRESS:
            result.shares.append(body["share"])
        else:
            fields |= body
    result.info, result.channels = fields["info"], fields["channels"]
    result.identical, result.damaged = fields["identical_channels"], fields["damaged"]
    result.findings = Findings.from_json(fields["findings"])
    result.pcm = np.frombuffer(audio, "<i2").reshape(-1, result.channels)
    return result
