"""Which modules are mutated, and the tests that must notice: those of the module, the quickest first."""

from __future__ import annotations

from typing import Final

__all__ = ["TARGETS"]

_RETRIES: Final = ("unit/test_retry", "unit/test_worst_case", "property/test_retry_properties")
_PAGES: Final = "docs/test_generated"
"""Holds the tables: they are written out in the reference."""

TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "policy/checks.py": ("unit/test_checks",),
    "policy/_conditions.py": ("unit/test_words",),
    "policy/_protocol_words.py": ("unit/test_words",),
    "policy/_socket_words.py": ("unit/test_words",),
    "policy/authority.py": ("unit/test_authority",),
    "policy/backoff.py": ("unit/test_backoff", "unit/test_reconnect"),
    "policy/budget.py": ("unit/test_budget",),
    "policy/cause.py": ("unit/test_cause",),
    "policy/codes.py": ("unit/test_codes",),
    "policy/diagnosis.py": ("unit/test_diagnosis",),
    "policy/evidence.py": ("unit/test_evidence",),
    "policy/failure.py": ("unit/test_diagnosis",),
    "policy/fate.py": ("unit/test_reconnect",),
    "policy/flight.py": ("unit/test_flight",),
    "policy/history.py": ("unit/test_history",),
    "policy/idle_limit.py": ("unit/test_idle_limit", "unit/test_idle_limit_applied"),
    "policy/kind.py": (_PAGES, "unit/test_telemetry_words"),
    "policy/liveness.py": ("unit/test_liveness", "property/test_liveness_properties"),
    "policy/outcome.py": _RETRIES,
    "policy/phase.py": ("unit/test_phase", _PAGES, "unit/test_retry", "unit/test_cause"),
    "policy/pings.py": ("unit/test_pings", "property/test_ping_properties"),
    "policy/profiles.py": ("unit/test_profiles", _PAGES),
    "policy/reconnect.py": ("unit/test_reconnect",),
    "policy/retry.py": _RETRIES,
    "policy/retry_after.py": ("unit/test_retry_after",),
    "policy/retry_table.py": (*_RETRIES[:2], _PAGES, _RETRIES[2]),
    "policy/settings.py": ("unit/test_settings", "unit/test_profiles", "unit/test_keepalive", _PAGES),
    "policy/stream_limit.py": ("unit/test_stream_limit",),
    "policy/taxonomy.py": ("unit/test_taxonomy",),
    "policy/tcp_info.py": ("unit/test_tcp_info",),
    "policy/verdict.py": _RETRIES,
    "policy/words.py": ("unit/test_words", _PAGES),
    "tls/engine.py": ("unit/test_tls_engine", "unit/test_tls_handshake"),
}
"""By path below ``src/holdwire``; the tests by path below ``tests``."""
