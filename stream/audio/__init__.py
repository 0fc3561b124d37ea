"""Conversion of audio to PCM at 16 kHz: the encodings of streams here, recordings in `files`."""
