"""The port: requests in, responses and sockets out."""
