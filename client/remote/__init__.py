"""The client library: sessions and subscriptions that survive broken connections."""
