"""HTTP in small types of its own: pool, exchange, connections. Knows no client library."""
