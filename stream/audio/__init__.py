"""Audio in any encoding or file to PCM at 16 kHz."""
