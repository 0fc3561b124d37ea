"""Alerts: rules on scores and on the conversation, and their states."""
