"""The drop-in transports; the only place that imports httpx, httpcore, httpx2 and httpcore2."""
