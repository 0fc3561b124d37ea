"""MQTT: topics, payloads, and their delivery to one broker."""
