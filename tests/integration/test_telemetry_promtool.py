"""The alert rules, checked and run by Prometheus's own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "docs" / "observability" / "holdwire.rules.yml"

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"),
]

SCENARIO = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'holdwire_requests_total{{server_address="bad", holdwire_outcome="ok"}}'
        values: '0+90x30'
      - series: 'holdwire_requests_total{{server_address="bad", holdwire_outcome="failed"}}'
        values: '0+10x30'
      - series: 'holdwire_requests_total{{server_address="flaky", holdwire_outcome="ok"}}'
        values: '0+50x30'
      - series: 'holdwire_requests_total{{server_address="flaky", holdwire_outcome="recovered"}}'
        values: '0+50x30'
      - series: 'holdwire_connection_failures_total{{server_address="flaky", holdwire_phase="idle"}}'
        values: '0+2x30'
      - series: 'holdwire_heartbeat_misses_total{{server_address="bad"}}'
        values: '0+6x30'
      - series: 'holdwire_heartbeat_duration_seconds_count{{server_address="bad"}}'
        values: '0+60x30'
      - series: 'holdwire_reconnect_attempts_total{{server_address="bad"}}'
        values: '0+600x30'
    alert_rule_test:
      - eval_time: 4m
        alertname: HoldwireRequestsFailing
        exp_alerts: []
      - eval_time: 20m
        alertname: HoldwireRequestsFailing
        exp_alerts:
          - exp_labels: {{severity: page, server_address: bad}}
            exp_annotations:
              summary: 'bad: more than one request in twenty fails for good'
              runbook: 'the log lines and spans of holdwire name cause and remedy; or run: holdwire doctor HOST:PORT'
      - eval_time: 20m
        alertname: HoldwireIdleTimeoutMismatch
        exp_alerts:
          - exp_labels: {{severity: info, server_address: flaky}}
            exp_annotations:
              summary: "flaky: idle connections die; they live longer than the path's idle limit"
              runbook: 'find the limit with: holdwire idle HOST:PORT'
      - eval_time: 20m
        alertname: HoldwireHeartbeatMisses
        exp_alerts:
          - exp_labels: {{severity: info, server_address: bad}}
            exp_annotations: {{summary: 'bad: more than one heartbeat in twenty is not answered'}}
      - eval_time: 20m
        alertname: HoldwireReconnectStorm
        exp_alerts:
          - exp_labels: {{severity: info, server_address: bad}}
            exp_annotations: {{summary: 'bad: sessions reconnect again and again'}}
"""


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules() -> None:
    assert "6 rules found" in promtool("check", "rules", str(RULES))


def test_each_alert_fires_on_its_trouble_and_a_recovered_request_pages_nobody(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yml"
    scenario.write_text(SCENARIO.format(rules=RULES), encoding="utf-8")
    assert "SUCCESS" in promtool("test", "rules", str(scenario))
