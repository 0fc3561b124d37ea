"""The analyser: bytes in, rolling emotion scores out."""
