"""Device discovery of Home Assistant: the configurations of devices and entities. No I/O.

Format: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, from 2024.11 on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

from stream import __version__
from stream.config import HomeAssistantConfig
from stream.delivery.groups import Group
from stream.labels import LABELS
from stream.sinks.mqtt.message import Message
from stream.sinks.mqtt.topics import Topics
from stream.tenants import DEFAULT

NONE: Final = "none"
"""State of the dominant label while nothing is scored."""

ORIGIN: Final = {"name": "emotide", "sw": __version__}

MIN_EXPIRE_S: Final = 30
MISSED: Final = 3
"""Updates of a group that may be missed before its entities are unavailable."""

MODELS: Final = {"room": "Room microphone", "device": "Device with a microphone"}
"""Model of a device by the kind of its tag, the part before the colon; others are groups."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Builds the configuration messages.

    Everything is about nodes and groups, which stay; a stream never becomes a device.
    """

    config: HomeAssistantConfig
    topics: Topics
    stats_interval_s: float

    def topic(self, object_id: str) -> str:
        """Return the topic of the configuration of a device."""
        return f"{self.config.prefix}/device/{object_id}/config"

    @property
    def patterns(self) -> tuple[str]:
        """Topic filter of the configurations of all devices, also of other programs."""
        return (self.topic("+"),)

    @property
    def birth_topic(self) -> str:
        """Topic on which Home Assistant publishes `online` after its start."""
        return f"{self.config.prefix}/status"

    def node(self) -> Message:
        """Build the device of this server."""
        object_id = _object_id("node", self.topics.node)
        stats = self.topics.of_node("stats")

        def number(field: str, name: str, **more: Any) -> dict[str, Any]:
            return {
                "p": "sensor",
                "unique_id": f"{object_id}_{field}",
                "name": name,
                "state_topic": stats,
                "value_template": f"{{{{ value_json.{field} }}}}",
                "entity_category": "diagnostic",
                "expire_after": self._expire_s,
                "availability": [self._node_availability()],
                **more,
            }

        components = {
            "connected": {
                "p": "binary_sensor",
                "unique_id": f"{object_id}_connected",
                "name": "Connected",
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "state_topic": self.topics.of_node("status"),
                "payload_on": "online",
                "payload_off": "offline",
            },
            "sessions": number("sessions", "Streams", state_class="measurement"),
            "subscribers": number("subscribers", "Subscribers", state_class="measurement"),
            "windows_waiting": number(
                "windows_waiting", "Waiting windows", state_class="measurement"
            ),
            "uptime_s": number(
                "uptime_s", "Uptime", device_class="duration", unit_of_measurement="s"
            ),
        }
        device = {
            "ids": [object_id],
            "name": f"Emotide {self.topics.node}",
            "mf": "Emotide",
            "mdl": "Server",
            "sw": __version__,
        }
        return self._message(object_id, {"dev": device, "o": ORIGIN, "cmps": components})

    def group(self, group: Group, labels: Sequence[str]) -> Message:
        """Build the device of a room, a device or another group."""
        tenant, tag = group
        kind, _, rest = tag.partition(":")
        name = rest or tag
        object_id = _object_id(*([] if tenant == DEFAULT else ["t", tenant]), tag)
        summary = self.topics.summary_topic(tag, tenant)
        # No suggested area: Home Assistant 2026 would name the entities kitchen_kitchen_speech.
        device = {
            "ids": [object_id],
            "name": re.sub(r"[-_.]+", " ", name).strip().capitalize() or tag,
            "mf": "Emotide",
            "mdl": MODELS.get(kind, "Group of streams"),
            "sw": __version__,
            "via_device": _object_id("node", self.topics.node),
        }
        components = self._scores(object_id, labels)
        if kind not in MODELS:
            components |= self._counts(object_id)
        is_live = "{{ 'online' if value_json.streams | default(0) > 0 else 'offline' }}"
        return self._message(
            object_id,
            {
                "dev": device,
                "o": ORIGIN,
                "state_topic": summary,
                "qos": 1,
                "availability": [
                    self._node_availability(),
                    {"topic": summary, "value_template": is_live},
                ],
                "availability_mode": "all",
                "cmps": components,
            },
        )

    def owns(self, topic: str, payload: bytes) -> bool:
        """Return whether a retained configuration is that of a group of this node."""
        try:
            body: Any = orjson.loads(payload)
            origin, availability = body["o"]["name"], body["availability"]
            known = [entry["topic"] for entry in availability]
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            return False
        prefix, suffix = self.topic("+").split("+")
        object_id = topic.removeprefix(prefix).removesuffix(suffix)
        return (
            re.fullmatch(r"emotide_[A-Za-z0-9_-]{1,128}", object_id) is not None
            and origin == ORIGIN["name"]
            and self.topics.of_node("status") in known
        )

    @property
    def _expire_s(self) -> int:
        return max(MIN_EXPIRE_S, round(MISSED * self.stats_interval_s))

    def _node_availability(self) -> dict[str, str]:
        return {"topic": self.topics.of_node("status")}

    def _scores(self, object_id: str, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {
            **{
                label: {
                    "p": "sensor",
                    "unique_id": f"{object_id}_{label}",
                    "name": label.capitalize(),
                    "value_template": _percent(f"value_json.{label}"),
                    "unit_of_measurement": "%",
                    "state_class": "measurement",
                    "suggested_display_precision": 0,
                    "expire_after": self._expire_s,
                }
                for label in labels
            },
            "activation": {
                "p": "sensor",
                "unique_id": f"{object_id}_activation",
                "name": "Activation",
                "value_template": _percent("value_json.activation"),
                "unit_of_measurement": "%",
                "state_class": "measurement",
                "suggested_display_precision": 0,
                "expire_after": self._expire_s,
            },
            "top": {
                "p": "sensor",
                "unique_id": f"{object_id}_top",
                "name": "Dominant label",
                "device_class": "enum",
                # All labels of all models: Home Assistant ignores a state that is not listed.
                "options": [*LABELS, NONE],
                "value_template": f"{{{{ value_json.top | default('{NONE}') }}}}",
                "expire_after": self._expire_s,
            },
            "speech": {
                "p": "binary_sensor",
                "unique_id": f"{object_id}_speech",
                "name": "Speech",
                "device_class": "sound",
                "value_template": "{{ 'ON' if value_json.speaking | default(0) > 0 else 'OFF' }}",
                "expire_after": self._expire_s,
            },
        }

    def _counts(self, object_id: str) -> dict[str, dict[str, Any]]:
        return {
            "streams": {
                "p": "sensor",
                "unique_id": f"{object_id}_streams",
                "name": "Streams",
                "value_template": "{{ value_json.streams | default(0) }}",
                "state_class": "measurement",
                "expire_after": self._expire_s,
            },
            "alerted": {
                "p": "sensor",
                "unique_id": f"{object_id}_alerted",
                "name": "Streams with alerts in 5 minutes",
                "value_template": _percent("value_json.m5.alerted"),
                "unit_of_measurement": "%",
                "state_class": "measurement",
                "suggested_display_precision": 0,
                "expire_after": self._expire_s,
            },
        }

    def _message(self, object_id: str, body: Mapping[str, Any]) -> Message:
        payload = orjson.dumps(body)
        return Message(self.topic(object_id), payload, 1, True, None, "emotide.discovery.v1")


def _object_id(*parts: str) -> str:
    """Return an id of `[A-Za-z0-9_-]` that is unique for its parts and the same at every start."""
    raw = "_".join(parts)
    text = re.sub(r"[^A-Za-z0-9_-]", "_", raw)
    # "room:kitchen" stays readable; other names that lose characters get a hash.
    if len(parts) == 1 and re.fullmatch(r"[a-z]+:[A-Za-z0-9-]{1,64}", raw):
        return f"emotide_{text}"
    return f"emotide_{text[:80]}_{blake2b(repr(parts).encode(), digest_size=4).hexdigest()}"


def _percent(value: str) -> str:
    # Home Assistant shows None as unknown; a missing field would be an error in its log.
    return f"{{{{ ({value} * 100) | round(1) if {value} is defined else None }}}}"
