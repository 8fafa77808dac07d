"""The settings: defaults, derived values and the wording of refusals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from holdwire.policy.settings import Heartbeat, Keepalive, PoolPolicy


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert (Keepalive().idle, Keepalive().interval, Keepalive().dead_after) == (60, 15, 90)
    assert (PoolPolicy().idle, PoolPolicy().max_age, PoolPolicy().max_requests) == (55, 300, None)
    assert PoolPolicy().learn == "report"
    assert (Heartbeat(interval=30).timeout, Heartbeat(interval=30).jitter) == (20, 0.15)


@pytest.mark.parametrize(
    ("idle", "interval", "dead_after", "measured"),
    [
        (6, 2, 7, 8.1),
        (6, 2, 9, 10.0),
        (6, 2, 12, 12.3),
        (6, 2, 20, 20.3),
        (3, 1, 5, 5.1),
        (1, 1, 10, 10.2),
        (6, 2, 6, 8.1),
    ],
)
def test_idle_death_is_what_linux_was_measured_to_do(
    idle: float, interval: float, dead_after: float, measured: float
) -> None:
    predicted = Keepalive(idle=idle, interval=interval, dead_after=dead_after).idle_death
    assert predicted == pytest.approx(measured, abs=0.5)


@pytest.mark.parametrize(
    ("keepalive", "count"),
    [
        (Keepalive(), 2),
        (Keepalive(idle=120, interval=30, dead_after=90), 1),
        (Keepalive(idle=60, interval=60, dead_after=90), 1),
        (Keepalive(idle=10, interval=7, dead_after=30), 3),
        (Keepalive(dead_after=None), 3),
    ],
)
def test_the_probe_count_follows_from_dead_after(keepalive: Keepalive, count: int) -> None:
    assert keepalive.count == count


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (Keepalive, {"idle": 1, "interval": 1, "dead_after": 128}),
        (Keepalive, {"idle": 32_767, "interval": 32_767, "dead_after": 5}),
        (Heartbeat, {"interval": 0.001, "timeout": 0.001, "jitter": 0}),
        (Heartbeat, {"interval": 1, "jitter": 1}),
        (PoolPolicy, {"idle": 0, "max_age": 0.001, "max_requests": 1}),
    ],
)
def test_a_value_at_the_end_of_its_range_is_taken(cls: Any, arguments: dict[str, Any]) -> None:
    assert {name: getattr(cls(**arguments), name) for name in arguments} == arguments


@pytest.mark.parametrize(
    ("cls", "arguments", "words"),
    [
        (Keepalive, {"idle": 0}, ["Keepalive", "idle=0", "keepalive=None"]),
        (Keepalive, {"interval": -1}, ["interval=-1"]),
        (Keepalive, {"idle": 40_000}, ["idle=40000", "32767"]),
        (Keepalive, {"dead_after": 4.9}, ["dead_after=4.9", "at least 5"]),
        (Keepalive, {"idle": math.nan}, ["idle=nan"]),
        (Keepalive, {"idle": 1, "interval": 1, "dead_after": 900}, ["127", "raise interval"]),
        (Heartbeat, {"interval": 0}, ["interval=0", "heartbeat=None"]),
        (Heartbeat, {"interval": 5, "timeout": math.inf}, ["timeout=inf"]),
        (Heartbeat, {"interval": 5, "jitter": 1.5}, ["jitter=1.5"]),
        (Heartbeat, {"interval": 5, "probe": b""}, ["probe=b''"]),
        (Heartbeat, {"interval": 5, "direction": "up"}, ["direction='up'", "read, write, both"]),
        (PoolPolicy, {"idle": -1}, ["idle=-1", "idle=None"]),
        (PoolPolicy, {"learn": "always"}, ["learn='always'", 'give "report" or "apply"']),
        (PoolPolicy, {"max_age": 0}, ["max_age=0"]),
        (PoolPolicy, {"max_requests": 0}, ["max_requests=0", "max_requests=None"]),
    ],
)
def test_a_value_out_of_range_is_named_with_what_to_do(cls: Any, arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match=cls.__name__) as caught:
        cls(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (Keepalive, {"idle": "60"}),
        (Keepalive, {"idle": None}),
        (Keepalive, {"interval": True}),
        (Heartbeat, {"interval": None}),
        (Heartbeat, {"interval": 5, "probe": "PING"}),
        (Heartbeat, {"interval": 5, "is_reply": b"PONG"}),
        (Heartbeat, {"interval": 5, "jitter": "a lot"}),
        (Heartbeat, {"interval": 5, "while_idle": "yes"}),
        (PoolPolicy, {"max_requests": 1.5}),
    ],
)
def test_a_value_of_the_wrong_type_is_a_type_error(cls: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=cls.__name__):
        cls(**arguments)


@pytest.mark.parametrize("setting", [Keepalive(), PoolPolicy(), Heartbeat(interval=1)])
def test_settings_cannot_be_changed(setting: Any) -> None:
    name = dataclasses.fields(setting)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(setting, name, 1)


def test_none_switches_the_limits_of_the_pool_off() -> None:
    pool = PoolPolicy(idle=None, max_age=None)
    assert pool.idle is None
    assert pool.age_limit(0.5) == math.inf


def test_the_maximum_age_is_spread_by_ten_percent() -> None:
    assert [PoolPolicy().age_limit(dice) for dice in (0, 0.5, 1)] == pytest.approx([270, 300, 330])


def test_a_heartbeat_takes_bytes_or_a_function_as_probe() -> None:
    async def probe(stream: Any) -> None:
        await stream.send(b"PING\r\n")

    assert Heartbeat(interval=5, probe=b"PING\r\n").probe == b"PING\r\n"
    assert Heartbeat(interval=5, probe=probe, is_reply=lambda data: data == b"+PONG\r\n").probe is probe
