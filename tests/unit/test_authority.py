"""How a host and its port are written."""

from __future__ import annotations

import pytest

from holdwire.policy.authority import authority


@pytest.mark.parametrize(
    ("host", "written"),
    [("api.example", "api.example:443"), ("192.0.2.1", "192.0.2.1:443"), ("2001:db8::1", "[2001:db8::1]:443")],
)
def test_an_ipv6_address_stands_in_brackets(host: str, written: str) -> None:
    assert authority(host, 443) == written
