"""Models: the interface, the embedded model, emotion2vec+, and the choice among them."""
