"""Sessions and subscriptions that survive broken connections."""
