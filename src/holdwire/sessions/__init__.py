"""Long-lived connections: heartbeats, and sessions that come back."""
