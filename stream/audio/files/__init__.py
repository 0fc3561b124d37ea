"""Recordings read: their containers, whether they are whole, and their audio as PCM."""
