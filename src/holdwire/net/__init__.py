"""Sockets: dialling, streams, keepalive, kernel facts, and the only backend-specific code of the project."""
