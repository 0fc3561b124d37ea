"""What Emotide costs and carries; each module prints a table. See README.md."""
