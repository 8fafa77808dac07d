"""A pytest plugin for httpx's own tests: its clients build holdwire's transports, and each deviation has its reason.

Run by the nox session ``downstream``, which takes the tests from httpx's source distribution. What deviates is listed
in ``DEVIATIONS`` and must fail: a test that passes by now is an error too. A run that went past holdwire is a failure.
With ``HOLDWIRE=off`` nothing deviates.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import httpx
import pytest

import holdwire
from holdwire.http.client import HttpClient
from holdwire.switches import is_off
from holdwire.transports.httpx import ResilientTransport

_POOL = "it looks at transport._pool for httpcore's own proxy class and its _proxy_url; holdwire has a pool of its own"
DEVIATIONS: Final[dict[str, str]] = {
    "tests/client/test_proxies.py::test_socks_proxy": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-http://google.com-env1-": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-http://google.com-env2-": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-http://127.0.0.1-env4-": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-http://127.0.0.1-env6-": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-http://127.0.0.1-env7-": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-https://mit.edu.info-env9-": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-https://mit.edu.info-env12-": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-https://foo.example.com-env13-": _POOL,
    "tests/client/test_proxies.py::test_proxies_environ[AsyncClient-https://www.example2.com-env15-": _POOL,
}
"""The beginning of a test's id, and why it fails with holdwire."""

_requests = 0


async def _counted(self: Any, request: Any) -> Any:
    global _requests  # noqa: PLW0603 - a count for the whole run
    _requests += 1
    return await _send(self, request)


_send = HttpClient.send


def pytest_configure(config: pytest.Config) -> None:
    """Put our transport where a client looks for its own."""
    del config
    protocols = importlib.import_module("uvicorn.config").HTTP_PROTOCOLS
    protocols["auto"] = protocols["h11"]  # httptools, which we bring, writes headers in another case
    for owner, name, value in (
        (HttpClient, "send", _counted),
        (httpx, "AsyncHTTPTransport", ResilientTransport),
        (importlib.import_module("httpx._client"), "AsyncHTTPTransport", ResilientTransport),
    ):
        setattr(owner, name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect what deviates to fail."""
    for item in items:
        for beginning, reason in DEVIATIONS.items():
            if item.nodeid.startswith(beginning) and not is_off():
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that went past holdwire."""
    if not _requests and not is_off() and session.testscollected and not session.config.option.collectonly:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much of it was ours."""
    terminalreporter.write_line(f"{_requests} requests went through holdwire {holdwire.__file__}")
