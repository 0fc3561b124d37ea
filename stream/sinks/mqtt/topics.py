"""Publications on MQTT: topics, payloads, QoS, retention and expiry. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from stream.delivery.live_stream import LiveStream
from stream.protocol.wire import mqtt as wire
from stream.protocol.wire.groups import GroupSummary
from stream.protocol.wire.mqtt import ChangeKind, UtteranceRecord
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.names import StreamNames, level, role_levels, role_of
from stream.sinks.mqtt.payloads import (
    VERSION,
    Fields,
    json_message,
    labels,
    measures,
    quality,
    unix_ms,
    with_activation,
    with_top,
)
from stream.tenants import DEFAULT
from stream.types import timestamp, unix_time

SCORE_EXPIRY_S = 30
STATS_EXPIRY_S = 120
SUMMARY_EXPIRY_S = 120
EVENT_EXPIRY_S = 3600
STATE_EXPIRY_S = 86_400
"""Seconds after which a broker deletes a message."""


COMMON = frozenset(("type", "v", "seq", "session_id", "stream_id", "ts", "channel", "role"))
"""Fields of an event that payloads rename or must not contain."""


@dataclass(frozen=True, slots=True)
class Topics:
    """All publications of one node. `now` is Unix time; `t` in payloads is its milliseconds."""

    prefix: str
    node: str
    names: StreamNames

    def status(self, online: bool) -> Message:
        """Build the status of the node: its birth, its will, and its last message."""
        payload = b"online" if online else b"offline"
        topic = self.of_node("status")
        return Message(topic, payload, 1, True, None, "emotide.status.v1", "text/plain")

    def info(self, body: wire.Info) -> Message:
        """Build the description of the node: version, model, limits."""
        fields: wire.MqttInfo = {**self._node_fields(), **body}
        message = json_message(self.of_node("info"), fields, "info", 1, True, None)
        short: wire.MqttInfo = {**fields, "limits": {}, "notice": ""}
        return replace(message, short=orjson.dumps(short))

    def stats(self, body: wire.Stats, now: float) -> Message:
        """Build the statistics of the node."""
        fields: wire.MqttStats = {**self._node_fields(), "t": unix_ms(now), **body}
        return json_message(self.of_node("stats"), fields, "stats", 0, True, STATS_EXPIRY_S)

    def state(self, stream: LiveStream, now: float) -> Message:
        """Build the description of a stream, with its state."""
        roles = role_levels(stream.roles)
        fields: wire.MqttState = {
            "v": VERSION,
            "t": unix_ms(now),
            "stream": self.names.of(stream),
            **_tenant(stream.tenant),
            "node": self.node,
            "state": stream.state,
            "started": timestamp(stream.started),
            "roles": roles,
            "analysed": [roles[channel] for channel in stream.analysed],
            "tags": stream.tags,
        }
        return json_message(self.state_topic(stream), fields, "state", 1, True, STATE_EXPIRY_S)

    def ended(self, stream: LiveStream, now: float, expiry_s: int) -> list[Message]:
        """Build the last messages of a stream: its state, and the end of its other topics.

        They are deleted after `expiry_s` seconds.
        """
        state = self.state(stream, now)
        payload = orjson.dumps({**orjson.loads(state.payload), "state": "ended"})
        roles = role_levels(stream.roles)
        leaves = [(roles[channel], "score") for channel in stream.analysed]
        if stream.conversation is not None:
            sides = stream.conversation.body["call"]["sides"]
            leaves += [(roles[side["channel"]], "conversation") for side in sides]
        return [
            replace(state, payload=payload, expiry_s=expiry_s, final=True),
            *self.ends(self._stream(stream), leaves, now, expiry_s),
        ]

    def ends(
        self, base: str, leaves: Iterable[tuple[str, str]], now: float, expiry_s: int
    ) -> list[Message]:
        """Build the last messages of channels, given their roles and the leaves of their topics.

        `base` is the topic above all topics of the stream.
        """
        messages = []
        for role, leaf in leaves:
            fields: wire.MqttEnd = {
                "v": VERSION,
                "t": unix_ms(now),
                "stream": base.rpartition("/")[2],
                "role": role,
                "state": "ended",
            }
            message = json_message(f"{base}/{role}/{leaf}", fields, "end", 1, True, expiry_s)
            messages.append(replace(message, final=True))
        return messages

    def score(self, stream: LiveStream, body: Fields) -> Message:
        """Build the scores of the newest window, one number per label."""
        fields: wire.MqttScore = {
            # Labels come first, so that no label of a model overwrites another field.
            **labels(body["scores"]),
            **self._stream_fields(stream, body),
            **with_top(body["scores"]),
            **with_activation(body),
            "speech_ratio": body["speech_ratio"],
            "audio_ms": body["audio_end_ms"],
        }
        topic = self._channel(stream, body, "score")
        return json_message(topic, fields, "score", 0, True, SCORE_EXPIRY_S)

    def segment(self, stream: LiveStream, body: Fields) -> Message:
        """Build the final scores of an utterance."""
        fields: wire.MqttSegment = {
            **labels(body["scores"]),
            **self._stream_fields(stream, body),
            **with_top(body["scores"]),
            **with_activation(body),
            "utterance": body["utterance"],
            "trigger": body["trigger"],
            "audio_start_ms": body["audio_start_ms"],
            "audio_end_ms": body["audio_end_ms"],
            "covered": body["covered"],
            **quality(body),
            "hints": body["hints"],
        }
        topic = self._channel(stream, body, "segment")
        return json_message(topic, fields, "segment", 1, False, EVENT_EXPIRY_S)

    def conversation(self, stream: LiveStream, body: Fields) -> list[Message]:
        """Build the conversation as each channel sees it, one number per field."""
        messages = []
        for minute, call in zip(body["minute"]["sides"], body["call"]["sides"], strict=True):
            side = {**body, "channel": minute["channel"]}
            fields = {
                **self._stream_fields(stream, side),
                "audio_ms": body["audio_ms"],
                "silence_now_ms": body["silence_now_ms"],
                **measures(body["minute"], minute),
                **{f"call_{k}": v for k, v in measures(body["call"], call).items()},
            }
            topic = self._channel(stream, side, "conversation")
            messages.append(json_message(topic, fields, "conversation", 0, True, SCORE_EXPIRY_S))
        return messages

    def alert(self, stream: LiveStream, body: Fields) -> Message:
        """Build an alert with all its fields but the stream's ids; its evidence becomes flat."""
        evidence = dict(body.get("evidence", {}))
        fields = {
            **evidence.pop("scores", {}),
            **{k: v for k, v in body.items() if k not in COMMON and k != "evidence"},
            **evidence,
            **self._stream_fields(stream, body),
        }
        if "channel" in body:
            topic = self._channel(stream, body, "alert")
        else:
            del fields["role"]
            topic = f"{self._stream(stream)}/alert"
        return json_message(topic, fields, "alert", 1, False, EVENT_EXPIRY_S)

    def change(
        self,
        kind: ChangeKind,
        before: UtteranceRecord | None,
        after: UtteranceRecord,
        tenant: str = DEFAULT,
    ) -> Message:
        """Build one change of an utterance; its segment says more."""
        fields: wire.MqttEvent = {"v": VERSION, "type": kind, "before": before, "after": after}
        topic = f"{self.of_tenant(tenant)}/events"
        message = json_message(topic, fields, "event", 1, False, EVENT_EXPIRY_S)
        return replace(message, minor=True)

    def summary(self, body: GroupSummary, now: float, tenant: str = DEFAULT) -> Message:
        """Build the summary of a group of a tenant. The one of an empty group is its last."""
        group = level(body["group"])
        fields = {**body, **self._node_fields(), "t": unix_ms(now), "group": group}
        topic = self.summary_topic(body["group"], tenant)
        message = json_message(topic, fields, "summary", 0, True, SUMMARY_EXPIRY_S)
        return replace(message, final=body.get("streams") == 0)

    def summary_topic(self, tag: str, tenant: str = DEFAULT) -> str:
        """Return the topic of the summaries of a group."""
        return f"{self.of_tenant(tenant)}/group/{level(tag)}/summary"

    def of_tenant(self, tenant: str) -> str:
        """Return the topic above all topics of a tenant's streams and groups."""
        return self.prefix if tenant == DEFAULT else f"{self.prefix}/t/{level(tenant)}"

    def of_node(self, leaf: str) -> str:
        """Return a topic of the node."""
        return f"{self.prefix}/node/{level(self.node)}/{leaf}"

    @property
    def states(self) -> tuple[str, str]:
        """Topic filters of the states of all streams, those of other nodes as well."""
        return f"{self.prefix}/stream/+/state", f"{self.prefix}/t/+/stream/+/state"

    def state_topic(self, stream: LiveStream) -> str:
        """Return the topic under which the state of a stream is retained."""
        return f"{self._stream(stream)}/state"

    def _node_fields(self) -> wire.OfNode:
        return {"v": VERSION, "node": self.node}

    def _stream_fields(self, stream: LiveStream, body: Fields) -> wire.OfChannel:
        return {
            "v": VERSION,
            "t": unix_ms(unix_time(body["ts"])),
            "stream": self.names.of(stream),
            "role": role_of(stream, body),
        }

    def _stream(self, stream: LiveStream) -> str:
        return f"{self.of_tenant(stream.tenant)}/stream/{self.names.of(stream)}"

    def _channel(self, stream: LiveStream, body: Fields, leaf: str) -> str:
        return f"{self._stream(stream)}/{role_of(stream, body)}/{leaf}"


def _tenant(tenant: str) -> wire.OfTenant:
    return {} if tenant == DEFAULT else {"tenant": tenant}
