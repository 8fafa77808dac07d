"""What the doctor makes of what it saw: ranking, upkeep against limits, this host's shortages. No network."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdwire.doctor
from holdwire.doctor.case import Case
from holdwire.doctor.conclude import ADVICE, EXPLAINS, conclude
from holdwire.doctor.record import Sign, Verdict
from holdwire.doctor.rungs import conversation, host, logs
from holdwire.doctor.target import Target
from holdwire.doctor.upkeep import Limit, Upkeep, hold
from holdwire.policy.profiles import profile, profile_names

NAMES = st.lists(st.sampled_from(sorted(ADVICE)), min_size=1, max_size=6)
SECONDS = st.floats(0.5, 10_000)


def test_every_sign_has_advice_and_every_advice_has_a_sign() -> None:
    files = [path for path in Path(holdwire.doctor.__path__[0]).rglob("*.py") if path.name != "conclude.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert set(re.findall(r"Sign\(\s*\"(\w+)\"", text)) <= set(ADVICE)
    assert {name for name in ADVICE if f'"{name}"' not in text} == set()


def test_nothing_is_a_consequence_of_its_own_consequence() -> None:
    TopologicalSorter(EXPLAINS).prepare()  # raises where two causes would hide each other
    assert set().union(*EXPLAINS.values(), EXPLAINS) <= set(ADVICE)


@given(NAMES)
def test_where_there_are_signs_there_is_a_cause_and_the_surest_comes_first(names: list[str]) -> None:
    causes = conclude(Sign(name, 0.5, f"sign {number}") for number, name in enumerate(names))
    assert causes
    assert {cause.name for cause in causes} <= set(names)
    assert [cause.confidence for cause in causes] == sorted((cause.confidence for cause in causes), reverse=True)


@given(NAMES, st.floats(0.01, 0.99))
def test_another_sign_of_the_same_cause_makes_it_surer(names: list[str], confidence: float) -> None:
    one = conclude([Sign(names[0], confidence, "one")])[0]
    two = conclude([Sign(names[0], confidence, "one"), Sign(names[0], confidence, "two")])[0]
    assert two.confidence >= one.confidence
    assert two.evidence == ("one", "two")


@given(name=st.sampled_from(profile_names()), limit=SECONDS, heartbeat=SECONDS, other=SECONDS, by_path=st.booleans())
def test_a_faster_heartbeat_never_does_harm_and_a_longer_limit_neither(
    *, name: str, limit: float, heartbeat: float, other: float, by_path: bool
) -> None:
    def holds(seconds: float, beat: float | None) -> bool:
        found = Limit(seconds=seconds, source="a limit", by_path=by_path, measured=True)
        return hold(found, Upkeep(profile=profile(name), heartbeat=beat))[1] is None

    fast, slow = sorted((heartbeat, other))
    assert holds(limit, fast) or not holds(limit, slow)
    assert holds(limit, slow) or not holds(limit, None)
    short, long = sorted((limit, other))
    assert holds(long, heartbeat) or not holds(short, heartbeat)
    assert holds(limit, limit / 2)
    assert not holds(0.4, None)


SHORTAGES = {
    "cpu_short": {"/proc/pressure/cpu": "some avg10=61.00 avg60=1.00 avg300=0.00 total=1"},
    "memory_short": {"/proc/pressure/memory": "some avg10=61.00 avg60=1.00 avg300=0.00 total=1"},
    "conntrack_full": {
        "/proc/sys/net/netfilter/nf_conntrack_count": "95",
        "/proc/sys/net/netfilter/nf_conntrack_max": "100",
    },
}
"""What cannot be staged without harm to the whole machine."""


@pytest.mark.parametrize("short", SHORTAGES)
def test_this_host_is_short_of(short: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: object) -> str:
        return SHORTAGES[short].get(str(path), "")

    monkeypatch.setattr(host, "_read", read)
    case = Case(target=Target("192.0.2.1", 443, secure=True))
    rung = host.look_at_resources(case, {}, local=False, dropped=False, slow=True)
    assert [sign.name for sign in rung.signs] == [short]
    well = host.look_at_resources(case, {}, local=False, dropped=False, slow=False)
    assert [sign.name for sign in well.signs] == (["conntrack_full"] if short == "conntrack_full" else [])


@pytest.mark.parametrize("date", ["", "soon", "Mon, 99 Foo 99999 99:99:99 GMT", f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"])
def test_a_date_that_no_calendar_has_tells_nothing_of_a_clock(date: str) -> None:
    assert conversation._skew(date) is None


@pytest.mark.parametrize("text", ["", "no record;of a kernel\n", "6,12;too short\n"])
def test_a_kernels_log_that_is_none_does_not_end_the_look(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "kmsg"  # in containers often /dev/null, or a console
    device.write_text(text)
    monkeypatch.setattr(logs, "_KERNEL", device)
    assert logs.look([], unwell=True).verdict is Verdict.OK
