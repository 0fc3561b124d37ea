"""Models: the interface, the embedded model, emotion2vec+, and the registry that selects one."""
