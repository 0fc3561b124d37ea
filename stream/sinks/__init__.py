"""Destinations of events besides WebSockets: MQTT."""
