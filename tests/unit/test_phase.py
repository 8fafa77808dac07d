"""The phases: which of them mean that nothing of a request can have left, and which that it was on its way."""

from __future__ import annotations

from holdwire.policy.phase import Phase

SETUP = ["dns", "connect", "proxy", "tls_handshake"]
EXCHANGE = ["request_headers", "request_body", "response_wait"]
REST = ["post_handshake", "pool", "idle", "response_body", "upgraded", "shutdown", "heartbeat"]


def test_every_phase_is_of_the_set_up_of_an_exchange_or_of_neither() -> None:
    assert [one for one in Phase if one.is_setup] == SETUP
    assert [one for one in Phase if one.is_exchange] == EXCHANGE
    assert {*SETUP, *EXCHANGE, *REST} == set(Phase)
