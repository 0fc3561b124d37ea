"""Sockets: bytes to messages and back, bounded and in fair order."""
