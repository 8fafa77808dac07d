"""Both families of HTTP client, by the same names: every test that takes ``family`` runs for each."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["Family"]


@dataclass(frozen=True)
class Family:
    """One family: its two modules, and what holdwire makes for it."""

    name: str
    http: Any
    core: Any
    ours: Any

    def transport(self, **settings: Any) -> Any:
        return self.ours.ResilientTransport(**settings)

    def client(self, **settings: Any) -> Any:
        """A client with our transport, whose settings are given."""
        return self.http.AsyncClient(transport=self.transport(**settings))


@pytest.fixture(params=["httpx", "httpx2"])
def family(request: pytest.FixtureRequest) -> Family:
    name = request.param
    http = pytest.importorskip(name)
    core = importlib.import_module(name.replace("httpx", "httpcore"))
    return Family(name, http, core, importlib.import_module(f"holdwire.transports.{name}"))
