"""Benchmarks of cost and capacity; each module prints a table. See README.md."""
