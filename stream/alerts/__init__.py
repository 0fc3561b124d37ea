"""Alerts: rules on scores and on the conversation, their states, and their outlets."""
