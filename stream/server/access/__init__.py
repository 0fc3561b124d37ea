"""Access: keys, tickets, credentials of telephony systems, hosts, origins, TLS."""
