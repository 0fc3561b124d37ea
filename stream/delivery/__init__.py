"""Live streams, subscriptions, and bounded queues towards subscribers and sinks."""
