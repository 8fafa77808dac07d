"""The scenarios do what their stories say, to a plain client that knows nothing of resilience."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from holdwire.testing.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from holdwire.testing.scenarios import ScriptedRequest
    from holdwire.testing.server import ChaosServer

NAIVE_ERRORS = (OSError, http.client.HTTPException)


class Client:
    """One connection at a time, no second attempts."""

    def __init__(self, server: ChaosServer) -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(self, request: ScriptedRequest) -> tuple[int, bytes]:
        if self._connection is None:
            host, port = self._server.address
            self._connection = (
                http.client.HTTPSConnection(host, port, timeout=30, context=self._server.client_context())
                if self._server.identity
                else http.client.HTTPConnection(host, port, timeout=30)
            )
        try:
            self._connection.request(request.method, request.path, body=request.body or None)
            response = self._connection.getresponse()
            return response.status, response.read()
        except NAIVE_ERRORS:
            self.close()
            raise


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_scenario_strikes_and_can_be_survived_within_its_limits(scenario: Scenario) -> None:
    with scenario.server() as server:
        client = Client(server)
        for request in scenario.requests[:-1]:
            assert client.request(request)[0] == 200
            if scenario.settle:
                server.wait_for("fault", count=scenario.settle)
        try:
            outcome: int | None = client.request(scenario.requests[-1])[0]
        except NAIVE_ERRORS:
            outcome = None
        faults = [entry.detail for entry in server.journal.entries("fault")]
        closed = [entry.detail for entry in server.journal.entries("listener")]
        assert faults or closed
        # A client that does not try again never executes more than is right, and sees the trouble in most scenarios.
        assert server.ledger.count(scenario.path) <= scenario.executions[1]
        assert (outcome, scenario.status) in {(None, None), (None, 200), (None, 413), (200, None), (413, 413)}
        client.close()


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.status == 200], ids=lambda scenario: scenario.name)
def test_trying_again_gets_through_where_that_is_right(scenario: Scenario) -> None:
    with scenario.server() as server:
        client = Client(server)
        for request in scenario.requests[:-1]:
            client.request(request)
            if scenario.settle:
                server.wait_for("fault", count=scenario.settle)
        for _ in range(3):
            try:
                assert client.request(scenario.requests[-1])[0] == 200
                break
            except NAIVE_ERRORS:
                server.wait_for(lambda: server.listening)
        else:
            pytest.fail("it never got through")
        assert scenario.allows(server.ledger.count(scenario.path))
        client.close()


def test_the_truncated_body_without_close_notify_fools_a_plain_client() -> None:
    scenario = next(s for s in SCENARIOS if s.name.startswith("cuts a body that ends"))
    with scenario.server() as server:
        client = Client(server)
        status, body = client.request(scenario.requests[-1])
        assert status == 200
        assert scenario.answer is not None
        assert 0 < len(body) < len(scenario.answer.body)
        client.close()


def test_names_are_unique_and_stories_are_sentences() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(s.story.endswith(".") and s.right.endswith(".") for s in SCENARIOS)


def test_scenarios_work_without_tls_too() -> None:
    scenario = SCENARIOS[0]
    with scenario.server(tls=False) as server:
        client = Client(server)
        client.request(scenario.requests[0])
        server.wait_for("fault")
        with pytest.raises(NAIVE_ERRORS):
            client.request(scenario.requests[1])
        assert server.ledger.count(scenario.path) == 0
