"""Writes ``holdwire.rules.yml`` and ``holdwire.dashboard.json`` from the metric names in the code.

Run ``python docs/observability/generate.py`` after a change; a test keeps the files equal to what this gives.
Only failed requests page anybody: what recovered is information.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from holdwire.telemetry import metrics as m
from holdwire.telemetry.metrics import Instrument, Metric

HERE: Final = Path(__file__).parent
RULES: Final = HERE / "holdwire.rules.yml"
DASHBOARD: Final = HERE / "holdwire.dashboard.json"


def label(attribute: str) -> str:
    """An attribute's name as Prometheus shows it."""
    return attribute.replace(".", "_")


def series(metric: Metric) -> str:
    """The name of the series of a metric, as OpenTelemetry's Prometheus exporter translates it."""
    name = label(metric.name)
    if metric.unit == "s":
        name += "_seconds"
    if metric.instrument in {Instrument.COUNTER, Instrument.OBSERVABLE_COUNTER}:
        name += "_total"
    return name


def buckets(metric: Metric) -> str:
    """The series of a histogram's buckets."""
    return f"{series(metric)}_bucket"


SERVER: Final = label("server.address")
ERROR: Final = label("error.type")
PHASE: Final = label("holdwire.phase")
OUTCOME: Final = label("holdwire.outcome")


# --- alert rules ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A recording rule (``record``) or an alert (``alert``)."""

    expr: str
    record: str = ""
    alert: str = ""
    wait: str = ""
    severity: str = ""
    summary: str = ""
    runbook: str = ""


def rules() -> tuple[Rule, ...]:
    """The rules, in the order of the file."""
    failures, beats, misses = series(m.FAILURES), f"{series(m.HEARTBEAT_DURATION)}_count", series(m.HEARTBEAT_MISSES)
    requests = series(m.REQUESTS)
    return (
        Rule(
            record="holdwire:connection_failures:rate5m",
            expr=f"sum by ({SERVER}, {ERROR}, {PHASE}) (rate({failures}[5m]))",
        ),
        Rule(
            record="holdwire:connection_setup:p99",
            expr=f"histogram_quantile(0.99, sum by (le, {SERVER}, {PHASE}) (rate({buckets(m.SETUP_DURATION)}[5m])))",
        ),
        Rule(
            alert="HoldwireRequestsFailing",
            expr=f'sum by ({SERVER}) (rate({requests}{{{OUTCOME}="failed"}}[5m])) '
            f"/ clamp_min(sum by ({SERVER}) (rate({requests}[5m])), 0.01) > 0.05",
            wait="5m",
            severity="page",
            summary=f"{{{{ $labels.{SERVER} }}}}: more than one request in twenty fails for good",
            runbook="the log lines and spans of holdwire name cause and remedy; or run: holdwire doctor HOST:PORT",
        ),
        Rule(
            alert="HoldwireIdleTimeoutMismatch",
            expr=f'sum by ({SERVER}) (increase({failures}{{{PHASE}="idle"}}[15m])) > 10',
            severity="info",
            summary=f"{{{{ $labels.{SERVER} }}}}: idle connections die; they live longer than the path's idle limit",
            runbook="find the limit with: holdwire idle HOST:PORT",
        ),
        Rule(
            alert="HoldwireHeartbeatMisses",
            expr=f"sum by ({SERVER}) (rate({misses}[5m])) / clamp_min(sum by ({SERVER}) (rate({beats}[5m])), 0.001) "
            "> 0.05",
            wait="5m",
            severity="info",
            summary=f"{{{{ $labels.{SERVER} }}}}: more than one heartbeat in twenty is not answered",
        ),
        Rule(
            alert="HoldwireReconnectStorm",
            expr=f"sum by ({SERVER}) (rate({series(m.RECONNECT_ATTEMPTS)}[1m])) > 5",
            wait="2m",
            severity="info",
            summary=f"{{{{ $labels.{SERVER} }}}}: sessions reconnect again and again",
        ),
    )


def quoted(text: str) -> str:
    """A string in YAML, where nothing but the quote itself needs care."""
    return "'" + text.replace("'", "''") + "'"


def rules_text() -> str:
    """The rule file."""
    lines = ["# Made by docs/observability/generate.py: change that.", "groups:", "  - name: holdwire", "    rules:"]
    for rule in rules():
        lines.append(f"      - record: {rule.record}" if rule.record else f"      - alert: {rule.alert}")
        lines.append(f"        expr: {quoted(rule.expr)}")
        if rule.wait:
            lines.append(f"        for: {rule.wait}")
        if rule.severity:
            lines += ["        labels:", f"          severity: {rule.severity}"]
        if rule.summary:
            lines += ["        annotations:", f"          summary: {quoted(rule.summary)}"]
        if rule.runbook:
            lines.append(f"          runbook: {quoted(rule.runbook)}")
    return "\n".join(lines) + "\n"


# --- dashboard ---

WHERE: Final = f'{{{SERVER}=~"$server"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: ``targets`` are expressions with their legends."""

    title: str
    targets: tuple[tuple[str, str], ...]
    unit: str = "short"
    says: str = ""
    heatmap: bool = False


def rate(metric: Metric, *by: str) -> tuple[str, str]:
    """A counter per second, by labels."""
    labels = ", ".join(by)
    return f"sum by ({labels}) (rate({series(metric)}{WHERE}[5m]))", " ".join(f"{{{{{one}}}}}" for one in by)


def quantile(metric: Metric, share: float, *by: str) -> tuple[str, str]:
    """A quantile of a histogram, by labels."""
    labels = ", ".join(("le", *by))
    legend = " ".join((f"p{share * 100:.0f}", *(f"{{{{{one}}}}}" for one in by)))
    return f"histogram_quantile({share}, sum by ({labels}) (rate({buckets(metric)}{WHERE}[5m])))", legend


def heatmap(title: str, metric: Metric, says: str) -> Panel:
    """A histogram over time."""
    expression = f"sum by (le) (increase({buckets(metric)}{WHERE}[5m]))"
    return Panel(title=title, targets=((expression, "{{le}}"),), unit="s", says=says, heatmap=True)


def panels() -> tuple[Panel, ...]:
    """The panels, in reading order."""
    return (
        Panel(
            title="Requests by outcome",
            targets=(rate(m.REQUESTS, OUTCOME),),
            unit="reqps",
            says="recovered: failed at least once, then answered. Only failed ones reached the caller as errors.",
        ),
        Panel(title="Failures by error.type", targets=(rate(m.FAILURES, ERROR),)),
        Panel(title="Failures by phase", targets=(rate(m.FAILURES, PHASE),)),
        Panel(title="Set-up, p99 by step", targets=(quantile(m.SETUP_DURATION, 0.99, PHASE),), unit="s"),
        Panel(
            title="Open connections",
            targets=(
                (f"sum by ({label('http.connection.state')}) ({series(m.OPEN)}{WHERE})", "{{http_connection_state}}"),
            ),
        ),
        Panel(
            title="Heartbeat round trip",
            targets=(quantile(m.HEARTBEAT_DURATION, 0.5), quantile(m.HEARTBEAT_DURATION, 0.99)),
            unit="s",
        ),
        Panel(title="Heartbeats missed", targets=(rate(m.HEARTBEAT_MISSES, SERVER),)),
        Panel(title="Reconnect attempts", targets=(rate(m.RECONNECT_ATTEMPTS, OUTCOME),)),
        Panel(title="Time to reconnect, p99", targets=(quantile(m.RECONNECT_DURATION, 0.99, OUTCOME),), unit="s"),
        Panel(title="Connections closed, by reason", targets=(rate(m.CLOSED_BY, label("holdwire.close.reason")),)),
        Panel(title="Life of connections, median", targets=(quantile(m.CONNECTION_DURATION, 0.5, SERVER),), unit="s"),
        heatmap("Age at the end", m.CLOSE_AGE, "Connections that the peer or a failure ended."),
        heatmap(
            "Idle time at the end",
            m.CLOSE_IDLE,
            "An idle limit of the path or the server shows as a horizontal line.",
        ),
        Panel(
            title="Retries not made, by reason",
            targets=(rate(m.RETRIES_SUPPRESSED, label("holdwire.retry.reason")),),
        ),
        Panel(title="Retries", targets=(rate(m.RETRIES, ERROR),)),
        Panel(title="Waiting for the pool, p99", targets=(quantile(m.TIME_IN_QUEUE, 0.99),), unit="s"),
        Panel(
            title="Connections opened, requests on reused ones",
            targets=(
                (rate(m.OPENED, SERVER)[0], "opened {{server_address}}"),
                (rate(m.REUSED, SERVER)[0], "reused {{server_address}}"),
            ),
        ),
    )


def panel_json(number: int, panel: Panel) -> dict[str, Any]:
    """A panel as Grafana wants it; three in a row."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.says,
        "type": "heatmap" if panel.heatmap else "timeseries",
        "datasource": source,
        "gridPos": {"h": 8, "w": 8, "x": number % 3 * 8, "y": number // 3 * 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"calculate": False} if panel.heatmap else {"legend": {"displayMode": "list"}},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": source,
                "expr": expression,
                "legendFormat": legend,
                "format": "heatmap" if panel.heatmap else "time_series",
            }
            for place, (expression, legend) in enumerate(panel.targets)
        ],
    }


def dashboard_text() -> str:
    """The dashboard as JSON, to be imported into Grafana."""
    names = f"label_values({series(m.OPENED)}, {SERVER})"
    dashboard = {
        "title": "holdwire",
        "uid": "holdwire",
        "tags": ["holdwire"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "server",
                    "type": "query",
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "query": names,
                    "definition": names,
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": [panel_json(number, panel) for number, panel in enumerate(panels())],
    }
    return json.dumps(dashboard, indent=2) + "\n"


def main() -> None:
    """Write both files."""
    RULES.write_text(rules_text(), encoding="utf-8")
    DASHBOARD.write_text(dashboard_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
