"""Analysis of one stream: PCM to windows, frame logits to events. Pure and synchronous."""
