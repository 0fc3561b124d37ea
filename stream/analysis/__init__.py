"""One stream from PCM to windows and from frame logits to events. Pure and synchronous."""
