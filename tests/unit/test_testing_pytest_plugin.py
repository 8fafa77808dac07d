"""The fixtures, as a user's test-suite sees them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

SUITE = """
import http.client
pytest_plugins = ["holdwire.testing.pytest_plugin"]

def fetch(address):
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        connection.request("GET", "/x")
        return connection.getresponse().read()
    finally:
        connection.close()

def test_server(chaos_server):
    assert fetch(chaos_server.address) == b"hello\\n"
    assert chaos_server.ledger.count("/x") == 1

def test_tls_server(chaos_tls_server):
    assert chaos_tls_server.url.startswith("https://127.0.0.1:")
    assert chaos_tls_server.client_context().check_hostname

def test_proxy(chaos_server, chaos_proxy):
    proxy = chaos_proxy(chaos_server.address, seed=1)
    assert fetch(proxy.address) == b"hello\\n"
    assert proxy.accepted == chaos_server.accepted == 1

def test_that_fails(chaos_server):
    fetch(chaos_server.address)
    assert chaos_server.ledger.count() == 2
"""


def test_the_fixtures_work_and_a_failing_test_tells_the_story(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(textwrap.dedent(SUITE))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*what happened on ChaosServer*", "*1  executed   GET /x*"])
