"""Types of everything that the server sends; asyncapi.yaml has their schemas.

Each event has two types: the body that the server builds, and the event that a client receives,
with the common fields. Imports neither numpy nor pydantic, because clients import it.
"""
