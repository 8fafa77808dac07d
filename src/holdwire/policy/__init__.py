"""Decisions: pure functions and tables, without sockets, clocks, sleep or randomness."""
