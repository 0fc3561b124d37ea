"""The HTTP application: page, files, recordings, labels, metrics."""
