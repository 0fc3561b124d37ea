"""Audio for the commands: files, encodings, playback."""
