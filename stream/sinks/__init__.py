"""Destinations of events besides WebSockets."""
