"""Live streams, subscriptions, and bounded queues to subscribers and sinks."""
