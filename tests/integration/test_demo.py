"""The demo as a user runs it: the table is true, and whoever reads it by machine gets the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from holdwire.cli import demo, main
from holdwire.testing import Answer
from holdwire.testing.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Mapping

# What each case is recorded as: the spans' names, kinds, phases, errnos and decisions, in order.
RECV, CONNECT = "holdwire syscall_failure recv", "holdwire syscall_failure connect"
RECORDED: Mapping[str, set[tuple[str, str, str, str | None, str]]] = {
    "resets an idle connection": {(RECV, "connection_reset", "idle", "ECONNRESET", "none")},
    "closes an idle connection without close_notify": {(RECV, "unexpected_eof", "idle", None, "none")},
    "refuses the first connects": {(CONNECT, "connection_refused", "connect", "ECONNREFUSED", "retried")},
    "resets in the TLS handshake": {(RECV, "connection_reset", "tls_handshake", "ECONNRESET", "retried")},
    "resets before it answers a GET": {(RECV, "connection_reset", "response_wait", "ECONNRESET", "retried")},
    "half-closes, executes a POST, resets": {(RECV, "unexpected_eof", "response_wait", None, "not_idempotent")},
    "cuts a body with a length": {(RECV, "unexpected_eof", "response_body", None, "fatal")},
    "cuts a chunked body": {(RECV, "connection_reset", "response_body", "ECONNRESET", "fatal")},
    "cuts a body that ends with the connection": {(RECV, "unexpected_eof", "response_body", None, "fatal")},
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "holdwire", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_machines_get_what_happened_and_holdwire_is_right_in_every_case(backend: str) -> None:
    done = run("--json", "--backend", backend)

    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["verdict"] == "ok"
    assert document["right"]["holdwire"] == len(SCENARIOS)
    assert document["right"]["httpx"] < len(SCENARIOS), "a plain client is lost somewhere, or the server behaves"
    for result, scenario in zip(document["results"], SCENARIOS, strict=True):
        assert result["name"] == scenario.name
        assert scenario.allows(result["holdwire"]["executions"])
        recorded = {
            (span["name"], span["kind"], span["phase"], span["errno_name"], span["decision"])
            for span in result["spans"]
        }
        if scenario.name in RECORDED:
            assert recorded == RECORDED[scenario.name]
        assert all(span["cause"] and span["remedy"] for span in result["spans"])
        if result["holdwire"]["got"].endswith("Error"):
            assert "127.0.0.1" in result["holdwire"]["message"], "an error names its peer"


def test_people_get_a_table_with_every_case_and_no_log_line_or_colour_in_it() -> None:
    done = run()

    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    rows = re.findall(r"^ ?(\d+)  (\S.*?)  +(right|WRONG)  (\S.*?)  +(right|WRONG)  (\S.*)$", done.stdout, re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(1, len(SCENARIOS) + 1))
    assert [row[4] for row in rows] == ["right"] * len(SCENARIOS)
    assert "lesson   Nothing can have been sent" in done.stdout
    assert re.search(r"^ok: holdwire was right in 10 of 10 cases, plain httpx in \d", done.stdout, re.MULTILINE)
    progress = [line for line in done.stderr.splitlines() if not re.match(r"\d+/10  the server ", line)]
    assert progress == [], "nothing but progress on standard error"


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(replace(SCENARIOS[0], executions=(0, 0)), id="executed too often"),
        pytest.param(replace(SCENARIOS[0], status=None), id="answered where an error is right"),
        pytest.param(replace(SCENARIOS[6], status=200), id="an error where an answer is right"),
        pytest.param(
            replace(SCENARIOS[0], answer=Answer(status=503, body=b"busy")), id="another status than the right one"
        ),
    ],
)
def test_a_client_that_is_wrong_is_called_wrong_and_the_command_fails(
    scenario: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SCENARIOS", (scenario,))

    assert main(["demo"]) == 1
    told = capsys.readouterr().out
    assert len(re.findall("WRONG", told)) == 2
    assert "failed: holdwire was right in 0 of 1 cases" in told


async def test_what_a_server_executes_after_the_client_gave_up_is_counted() -> None:
    late = "request#2:end half_close; request#2:end stall=0.2; response#2:0 rst"
    scenario = replace(next(one for one in SCENARIOS if one.name.startswith("half-closes")), connections=(late,))

    result = await demo.play(scenario)

    assert (result.httpx.got, result.httpx.executions) == ("RemoteProtocolError", 1)
    assert (result.holdwire.got, result.holdwire.executions) == ("RemoteProtocolError", 1)


def test_without_a_library_for_certificates_the_demo_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> None:
        message = "make their certificates with trustme or cryptography: pip install trustme"
        raise ImportError(message)

    monkeypatch.setattr("holdwire.testing._chaos.self_signed", missing)

    assert main(["demo"]) == 2
    assert "pip install trustme" in capsys.readouterr().err
