"""Check and measurement of emotion2vec+ on a GPU in one command: `python -m bench.gpu`."""
