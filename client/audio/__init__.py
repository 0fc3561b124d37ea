"""Audio files, wire encodings and playback for the commands."""
