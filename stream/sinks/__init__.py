"""Destinations of events besides WebSockets: MQTT and webhooks."""
