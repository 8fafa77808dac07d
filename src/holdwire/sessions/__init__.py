"""Long-lived connections: streams with a heartbeat (``connect``), and sessions that come back (``sessions``)."""

from . import probes

__all__ = ["probes"]
