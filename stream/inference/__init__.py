"""Windows of all streams to logits: slots, scheduler, and the calls of a model."""
