"""MQTT topics: names, flat payloads, QoS, retention and expiry. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import orjson

from stream.delivery.live_stream import LiveStream
from stream.labels import top
from stream.protocol.wire import mqtt as wire
from stream.protocol.wire.groups import GroupSummary, Labels, WithActivation, WithTop
from stream.protocol.wire.mqtt import ChangeKind, UtteranceRecord
from stream.protocol.wire.parts import Quality
from stream.tenants import DEFAULT
from stream.types import timestamp, unix_time

Fields = Mapping[str, Any]
Change = tuple[ChangeKind, UtteranceRecord | None, UtteranceRecord]
"""Kind of the change of an utterance, its state before and after."""

VERSION: Final = 1
"""`v` of every payload."""
SCORE_EXPIRY_S = 30
STATS_EXPIRY_S = 120
SUMMARY_EXPIRY_S = 120
EVENT_EXPIRY_S = 3600
STATE_EXPIRY_S = 86_400


@dataclass(frozen=True, slots=True)
class Message:
    """One publication.

    `expiry_s`: seconds after which the broker deletes it, None for never (MQTT 5.0, 3.3.2.3.3).
    `schema` names the payload's structure. An empty retained payload deletes the retained message
    of the topic (3.3.1.3). `short` is a payload for a broker that does not take the whole one.
    `final`: the last message of its topic; it must replace what the broker retains, however late.
    """

    topic: str
    payload: bytes
    qos: Literal[0, 1]
    retain: bool
    expiry_s: int | None
    schema: str
    content_type: str = "application/json"
    short: bytes = b""
    final: bool = False


def deletion(topic: str) -> Message:
    """Return the message that deletes the retained message of `topic`."""
    return Message(topic, b"", 1, True, None, "", "")


def level(text: str) -> str:
    """Return `text` as one topic level of `[A-Za-z0-9_.-]`, the rest as %XX of its UTF-8.

    The mapping is injective. Wildcards and separators (MQTT 5.0, 4.7.1) never reach a topic.
    """
    return quote(text, safe="", errors="surrogatepass").replace("~", "%7E") or "%"


class StreamNames:
    """Stream ids as topic levels: readable without a key, a keyed hash with one.

    With the same key an id has the same hash; without the key it cannot be recovered.
    """

    def __init__(self, key: bytes | None) -> None:
        # The key is hashed first, because blake2b accepts at most 64 bytes.
        self._key = None if key is None else blake2b(key).digest()

    def of(self, stream: LiveStream) -> str:
        """Return the topic level of a stream. The hash differs between tenants."""
        if self._key is None:
            return level(stream.stream_id)
        tenant = "" if stream.tenant == DEFAULT else f"{stream.tenant}/"
        raw = (tenant + stream.stream_id).encode(errors="surrogatepass")
        return blake2b(raw, key=self._key, digest_size=8).hexdigest()


def topic_class(topic: str, prefix: str) -> str:
    """Return a topic with its variable levels as `+`: the same for all streams, nodes, groups."""
    levels = topic.removeprefix(f"{prefix}/").split("/")
    tenant, levels = (["t", "+"], levels[2:]) if levels[0] == "t" else ([], levels)
    return "/".join([prefix, *tenant, levels[0], *("+" for _ in levels[1:-1]), *levels[1:][-1:]])


def role_levels(roles: Sequence[str]) -> tuple[str, ...]:
    """Return one distinct topic level per channel: `speaker`, `speaker-1`, ..."""
    return tuple(
        level(role) + (f"-{before}" if (before := roles[:channel].count(role)) else "")
        for channel, role in enumerate(roles)
    )


COMMON = frozenset(("type", "v", "seq", "session_id", "stream_id", "ts", "channel", "role"))
"""Fields of an event that payloads rename or must not contain."""


SIDE = ("talk_ms", "talk_share", "overlap_ms", "turns", "response_ms", "longest_turn_ms")
"""Fields of one channel in a conversation."""


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
        message = _message(self.of_node("info"), fields, "info", 1, True, None)
        short: wire.MqttInfo = {**fields, "limits": {}, "notice": ""}
        return replace(message, short=orjson.dumps(short))

    def stats(self, body: wire.Stats, now: float) -> Message:
        """Build the statistics of the node."""
        fields: wire.MqttStats = {**self._node_fields(), "t": _ms(now), **body}
        return _message(self.of_node("stats"), fields, "stats", 0, True, STATS_EXPIRY_S)

    def state(self, stream: LiveStream, now: float) -> Message:
        """Build the description of a stream, with its state."""
        roles = role_levels(stream.roles)
        fields: wire.MqttState = {
            "v": VERSION,
            "t": _ms(now),
            "stream": self.names.of(stream),
            **_tenant(stream.tenant),
            "node": self.node,
            "state": stream.state,
            "started": timestamp(stream.started),
            "roles": roles,
            "analysed": [roles[channel] for channel in stream.analysed],
            "tags": stream.tags,
        }
        return _message(self.state_topic(stream), fields, "state", 1, True, STATE_EXPIRY_S)

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
                "t": _ms(now),
                "stream": base.rpartition("/")[2],
                "role": role,
                "state": "ended",
            }
            message = _message(f"{base}/{role}/{leaf}", fields, "end", 1, True, expiry_s)
            messages.append(replace(message, final=True))
        return messages

    def score(self, stream: LiveStream, body: Fields) -> Message:
        """Build the scores of the newest window, one number per label."""
        fields: wire.MqttScore = {
            # Labels come first, so that no label of a model overwrites another field.
            **_labels(body["scores"]),
            **self._stream_fields(stream, body),
            **_top(body["scores"]),
            **_activation(body),
            "speech_ratio": body["speech_ratio"],
            "audio_ms": body["audio_end_ms"],
        }
        topic = self._channel(stream, body, "score")
        return _message(topic, fields, "score", 0, True, SCORE_EXPIRY_S)

    def segment(self, stream: LiveStream, body: Fields) -> Message:
        """Build the final scores of an utterance."""
        fields: wire.MqttSegment = {
            **_labels(body["scores"]),
            **self._stream_fields(stream, body),
            **_top(body["scores"]),
            **_activation(body),
            "utterance": body["utterance"],
            "trigger": body["trigger"],
            "audio_start_ms": body["audio_start_ms"],
            "audio_end_ms": body["audio_end_ms"],
            "covered": body["covered"],
            **_quality(body),
            "hints": body["hints"],
        }
        topic = self._channel(stream, body, "segment")
        return _message(topic, fields, "segment", 1, False, EVENT_EXPIRY_S)

    def conversation(self, stream: LiveStream, body: Fields) -> list[Message]:
        """Build the conversation as each channel sees it, one number per field."""
        messages = []
        for minute, call in zip(body["minute"]["sides"], body["call"]["sides"], strict=True):
            side = {**body, "channel": minute["channel"]}
            fields = {
                **self._stream_fields(stream, side),
                "audio_ms": body["audio_ms"],
                "silence_now_ms": body["silence_now_ms"],
                **_measures(body["minute"], minute),
                **{f"call_{k}": v for k, v in _measures(body["call"], call).items()},
            }
            topic = self._channel(stream, side, "conversation")
            messages.append(_message(topic, fields, "conversation", 0, True, SCORE_EXPIRY_S))
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
        return _message(topic, fields, "alert", 1, False, EVENT_EXPIRY_S)

    def change(
        self,
        kind: ChangeKind,
        before: UtteranceRecord | None,
        after: UtteranceRecord,
        tenant: str = DEFAULT,
    ) -> Message:
        """Build one change of an utterance."""
        fields: wire.MqttEvent = {"v": VERSION, "type": kind, "before": before, "after": after}
        topic = f"{self.of_tenant(tenant)}/events"
        return _message(topic, fields, "event", 1, False, EVENT_EXPIRY_S)

    def summary(self, body: GroupSummary, now: float, tenant: str = DEFAULT) -> Message:
        """Build the summary of a group of a tenant. The one of an empty group is its last."""
        group = level(body["group"])
        fields = {**body, **self._node_fields(), "t": _ms(now), "group": group}
        topic = self.summary_topic(body["group"], tenant)
        message = _message(topic, fields, "summary", 0, True, SUMMARY_EXPIRY_S)
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
            "t": _ms(unix_time(body["ts"])),
            "stream": self.names.of(stream),
            "role": _role(stream, body),
        }

    def _stream(self, stream: LiveStream) -> str:
        return f"{self.of_tenant(stream.tenant)}/stream/{self.names.of(stream)}"

    def _channel(self, stream: LiveStream, body: Fields, leaf: str) -> str:
        return f"{self._stream(stream)}/{_role(stream, body)}/{leaf}"


class Utterances:
    """Open utterances of one stream, and their changes as arguments of `Topics.change`."""

    def __init__(self, stream: LiveStream, names: StreamNames) -> None:
        self._stream = stream
        self._id = names.of(stream)
        self._open: dict[tuple[int, int], UtteranceRecord] = {}

    def step(self, body: Fields) -> Change | None:
        """Return the change that an event makes: kind, before, after; None if it makes none."""
        event_type = body["type"]
        if event_type not in ("speech.start", "emotion.score", "emotion.segment"):
            return None
        key = (body["channel"], body["utterance"])
        before = self._open.get(key)
        if event_type == "speech.start":
            after = self._record(body, body["audio_ms"])
            self._open[key] = after
            return "new", None, after
        if event_type == "emotion.score":
            # Scores may follow the segment if the stream ends before they are ready.
            label = _top(body["scores"])
            if before is None or before["top"] == label.get("top"):
                return None
            after = {**before, **label}
            self._open[key] = after
            return "update", before, after
        self._open.pop(key, None)
        start = before["start_ms"] if before else body["audio_start_ms"]
        after = {
            **self._record(body, start),
            **_top(body["scores"]),
            "end_ms": body["audio_end_ms"],
            "covered": body["covered"],
        }
        return "end", before, after

    def close(self) -> list[Change]:
        """End the utterances that no segment ended; return their changes."""
        ends: list[Change] = [("end", before, before) for before in self._open.values()]
        self._open.clear()
        return ends

    def _record(self, body: Fields, start_ms: int) -> UtteranceRecord:
        return {
            "stream": self._id,
            "role": _role(self._stream, body),
            "utterance": body["utterance"],
            "start_ms": start_ms,
            "end_ms": None,
            "top": None,
            "top_score": None,
        }


def _tenant(tenant: str) -> wire.OfTenant:
    return {} if tenant == DEFAULT else {"tenant": tenant}


def _role(stream: LiveStream, body: Fields) -> str:
    return role_levels(stream.roles)[body.get("channel", 0)]


def _measures(measures: Fields, side: Fields) -> dict[str, Any]:
    """Return the measures of the conversation and of one channel; unknown ones are absent."""
    own = {name: side[name] for name in SIDE if side[name] is not None}
    return {"silence_ms": measures["silence_ms"], "dead_air_ms": measures["dead_air_ms"], **own}


def _activation(body: Fields) -> WithActivation:
    """Return the activation; omit it instead of null, so that dashboards keep the last number."""
    value = body.get("activation")
    return {} if value is None else {"activation": value}


def _labels(scores: Mapping[str, float]) -> Labels:
    """Return the shares as fields. The labels of all models are those of `Labels`."""
    return cast(Labels, scores)


def _quality(body: Fields) -> Quality:
    return cast(Quality, body["quality"])


def _top(scores: Mapping[str, float]) -> WithTop:
    best = top(scores)
    return {} if best is None else {"top": best["label"], "top_score": best["score"]}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _message(
    topic: str, fields: Fields, schema: str, qos: Literal[0, 1], retain: bool, expiry_s: int | None
) -> Message:
    payload = orjson.dumps(fields)
    return Message(topic, payload, qos, retain, expiry_s, f"emotide.{schema}.v{VERSION}")
