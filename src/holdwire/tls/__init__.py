"""TLS: a sans-I/O engine, and the byte streams that drive it."""
