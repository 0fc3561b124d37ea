"""Conversion of audio in any supported encoding or file format to PCM at 16 kHz."""
