"""Windows of all streams to logits: slots, the scheduler, and the calls of a model."""
