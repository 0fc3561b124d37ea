"""The process: its phase, health, memory and file descriptors."""
