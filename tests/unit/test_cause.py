"""The likely cause of a failure in the light of its origin's history: a case for each row, and what not to claim."""

from __future__ import annotations

import string
from typing import Any

import pytest

from holdwire.policy.cause import RULES, Clues, explain
from holdwire.policy.failure import Failure
from holdwire.policy.idle_limit import IdleEstimate
from holdwire.policy.kind import Category, Confidence, Kind
from holdwire.policy.phase import Delivery, Phase
from holdwire.policy.tcp_info import TcpInfo, TcpState
from holdwire.policy.words import CONFIDENCE, WORDS, confidence_in


def failure(kind: Kind, phase: Phase = Phase.IDLE, **more: Any) -> Failure:
    return Failure(kind=kind, category=Category.PEER_CLOSED, phase=phase, cause="before", remedy="before", **more)


def limit(low: float = 350.2, *, deaths: int = 14, episodes: int = 3) -> IdleEstimate:
    return IdleEstimate(low=low, high=low + 1, deaths=deaths, episodes=episodes, newest=0.0, survived=None)


def tcp(**more: Any) -> TcpInfo:
    return TcpInfo(state=TcpState.ESTABLISHED, **more)


RESET = failure(Kind.CONNECTION_RESET)
FIRST_USE = failure(Kind.HEARTBEAT_LOST, Phase.RESPONSE_WAIT, reused=True)
DEAD = tcp(last_ack_recv=95_000, total_retrans=9, snd_mss=1448, bytes_acked=50_000, bytes_sent=60_000)
LOSSY = tcp(last_ack_recv=10, total_retrans=9, snd_mss=1448, bytes_sent=60_000, bytes_retrans=12_000)
BIG_ONES = tcp(snd_mss=1448, retransmits=3, total_rto=3, bytes_acked=518, last_ack_recv=4_000, total_retrans=3)

CASES: list[tuple[str, Failure, Clues, Confidence, str]] = [
    (
        "idle_limit",
        RESET,
        Clues(idle=350.4, limit=limit()),
        Confidence.CERTAIN,
        (
            "It died at 350 s idle for the 14th time: the path drops idle flows at 350 s, as AWS NLB does. "
            'Use profile="aws-nlb", or a heartbeat below 175 s.'
        ),
    ),
    (
        "idle_limit",
        FIRST_USE,
        Clues(idle=350.4, limit=limit(deaths=2, episodes=2)),
        Confidence.LIKELY,
        (
            "It died at 350 s idle for the 2nd time: the path seems to drop idle flows at 350 s, as AWS NLB does. "
            'Use profile="aws-nlb", or a heartbeat below 175 s.'
        ),
    ),
    (
        "idle_limit",
        RESET,
        Clues(idle=90.0, limit=limit(89.5, deaths=23)),
        Confidence.CERTAIN,
        (
            "It died at 90 s idle for the 23rd time: the peer or the path ends idle connections at 90 s. "
            "Let the pool idle for 72 s at most (PoolPolicy), or use a heartbeat below 45 s."
        ),
    ),
    (
        "idle_limit",
        RESET,
        Clues(idle=7.2, limit=limit(7.1, deaths=11, episodes=1)),
        Confidence.LIKELY,
        (
            "It died at 7.2 s idle for the 11th time: the peer or the path seems to end idle connections then. "
            "Let the pool idle for 6 s at most (PoolPolicy), or use a heartbeat below 4 s."
        ),
    ),
    (
        "restart",
        RESET,
        Clues(idle=12.0, restarted=True, refused=True),
        Confidence.LIKELY,
        (
            "Connections to this peer ended at one moment, whatever their age: it was restarted or replaced. "
            "Nothing if it was being deployed; otherwise look for a crash at that moment in its log."
        ),
    ),
    (
        "restart",
        RESET,
        Clues(idle=350.0, refused=True),
        Confidence.LIKELY,
        (
            "It ended while new connections were refused: the peer was restarted, or it crashed. "
            "Nothing if it was being deployed; otherwise look for a crash at that moment in its log."
        ),
    ),
    (
        "idle_limit_lookalike",
        RESET,
        Clues(idle=240.3),
        Confidence.POSSIBLE,
        (
            "It died at 240 s idle, which is where Azure LB drops idle flows. "
            'If that is on the path use profile="azure-lb"; otherwise see whether it happens again.'
        ),
    ),
    (
        "stopped_answering",
        failure(Kind.CONNECTION_REFUSED, Phase.CONNECT),
        Clues(answered=3.2),
        Confidence.LIKELY,
        (
            "The peer answered 3 s ago and refuses connections now: it is restarting, or it crashed. "
            "Wait for it: a deployment takes it away for seconds. If it stays away look at its log."
        ),
    ),
    (
        "never_listened",
        failure(Kind.CONNECTION_REFUSED, Phase.CONNECT),
        Clues(streak=10),
        Confidence.LIKELY,
        (
            "Every connection was refused, 10 times in a row, and none has ever been accepted. "
            "Check host and port in the settings, and that the service is deployed there."
        ),
    ),
    (
        "resolver",
        failure(Kind.NAME_RESOLUTION_ERROR, Phase.DNS),
        Clues(answered=60.0),
        Confidence.LIKELY,
        (
            "The peer answered under this name 60 s ago: the resolver is in trouble, not the name. "
            "Check the name servers of this host and the way to them."
        ),
    ),
    (
        "handshake_refused",
        failure(Kind.CONNECTION_RESET, Phase.TLS_HANDSHAKE),
        Clues(streak=3),
        Confidence.LIKELY,
        (
            "The TLS handshake was cut 3 times in a row: something refuses it on purpose. "
            "Check the server name, the TLS versions and filters on the path; holdwire doctor compares them."
        ),
    ),
    (
        "same_phase",
        failure(Kind.UNEXPECTED_EOF, Phase.RESPONSE_WAIT),
        Clues(streak=3),
        Confidence.LIKELY,
        (
            "Fresh connections ended in this phase 3 times in a row: requests like this make the peer fail, or a box "
            "in between refuses them. Compare with another request to the same peer, and look for a crash in its log."
        ),
    ),
    (
        "mtu",
        failure(Kind.TIMED_OUT, Phase.REQUEST_BODY, tcp=BIG_ONES, outq=5_000),
        Clues(),
        Confidence.POSSIBLE,
        (
            "Small packets were acknowledged and full-sized ones (1448 bytes) never: a link on the path has a smaller "
            "MTU, and the ICMP messages that say so are filtered. "
            "Let ICMP 'fragmentation needed' through, or lower the MTU of this host's interface."
        ),
    ),
    (
        "silence",
        failure(Kind.TIMED_OUT, Phase.RESPONSE_WAIT, tcp=DEAD, outq=512),
        Clues(),
        Confidence.LIKELY,
        (
            "The peer's last sign of life was 95.0 s before; what was sent since then, 9 times in vain, was not "
            "acknowledged: the path or the peer's host has died. Check the network between both hosts and the "
            "peer's host."
        ),
    ),
    (
        "loss",
        failure(Kind.LOCAL_TIMEOUT, Phase.RESPONSE_WAIT, tcp=LOSSY),
        Clues(),
        Confidence.POSSIBLE,
        (
            "20 % of what was sent had to be sent again: the path loses packets. "
            "Check the network between both hosts; 'ip -s link' and the counters of the switches show where."
        ),
    ),
    (
        "answer_begun",
        failure(Kind.UNEXPECTED_EOF, Phase.RESPONSE_WAIT, reused=True, delivery=Delivery.ANSWERED),
        Clues(),
        Confidence.POSSIBLE,
        (
            "The peer had begun to answer when the connection ended: it crashed, or a box in between cut it. "
            "Look at that moment in the log of the peer's program and of the balancers before it."
        ),
    ),
]


@pytest.mark.parametrize(("name", "what", "clues", "confidence", "words"), CASES)
def test_the_cause_is_said_in_plain_words(
    name: str, what: Failure, clues: Clues, confidence: Confidence, words: str
) -> None:
    first = next(rule for rule in RULES if rule.when(what, clues))
    assert first.name == name
    told = explain(what, clues)
    assert told.confidence is confidence
    assert f"{told.cause} {told.remedy}" == words
    assert told.evolve(cause="before", remedy="before", confidence=what.confidence) == what


def test_every_row_has_a_case() -> None:
    reached = {(name, confidence) for name, _, _, confidence, _ in CASES}
    assert reached == {(rule.name, rule.confidence) for rule in RULES}
    assert len(CASES) == len(RULES)


def told_of(what: Failure, clues: Clues) -> set[str]:
    return {rule.name for rule in RULES if rule.when(what, clues)}


def test_a_death_that_looks_like_another_limit_than_the_one_that_was_learnt_is_told_as_that() -> None:
    told = explain(RESET, Clues(idle=350.4, limit=limit(60.2)))
    assert told.cause == "It died at 350 s idle, which is where AWS NLB drops idle flows."
    assert 'profile="aws-nlb"' in told.remedy


def test_a_limit_that_only_some_of_a_path_have_is_halved_for_the_heartbeat_as_it_was_learnt() -> None:
    told = explain(RESET, Clues(idle=86_400.0, limit=limit(86_399.0)))
    assert told.remedy == 'Use profile="k8s", or a heartbeat below 43200 s.'


@pytest.mark.parametrize("clues", [Clues(idle=240.0, restarted=True), Clues(idle=240.0, refused=True)])
def test_what_ended_with_others_is_no_idle_limit(clues: Clues) -> None:
    assert told_of(RESET, clues) == {"restart"}


@pytest.mark.parametrize(("idle", "told"), [(9.94, "9.9 s"), (10.0, "10 s"), (10.6, "11 s"), (7.0, "7.0 s")])
def test_an_idle_age_is_told_as_exactly_as_it_matters(idle: float, told: str) -> None:
    assert f"It died at {told} idle" in explain(RESET, Clues(idle=idle, limit=limit(idle))).cause


@pytest.mark.parametrize(
    "nth",
    [
        *("1st", "2nd", "3rd", "4th", "9th", "10th", "11th", "12th", "13th", "19th", "20th", "21st", "22nd", "23rd"),
        *("24th", "101st", "111th", "112th", "121st"),
    ],
)
def test_deaths_are_counted_in_english(nth: str) -> None:
    told = explain(RESET, Clues(idle=90.0, limit=limit(90.0, deaths=int(nth[:-2]))))
    assert f"for the {nth} time" in told.cause


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("phase", Phase)
def test_only_an_end_that_comes_again_and_again_is_put_on_the_phase(kind: Kind, phase: Phase) -> None:
    ends = kind in {"connection_reset", "unexpected_eof", "broken_pipe", "connection_aborted"}
    name = {"tls_handshake": "handshake_refused"} | dict.fromkeys(
        ["request_headers", "request_body", "response_wait", "response_body"], "same_phase"
    )
    assert told_of(failure(kind, phase), Clues(streak=3)) == ({name[phase]} if ends and phase in name else set())
    assert told_of(failure(kind, phase), Clues(streak=2)) == set()
    assert Clues().streak == 1


@pytest.mark.parametrize("kind", Kind)
def test_packets_are_only_blamed_where_nothing_came_in_time(kind: Kind) -> None:
    silent = kind in {"timed_out", "heartbeat_lost"}
    waited = silent or kind == "local_timeout"
    assert ("mtu" in told_of(failure(kind, tcp=BIG_ONES, outq=5_000), Clues())) == waited
    assert ("loss" in told_of(failure(kind, tcp=LOSSY), Clues())) == waited
    assert ("silence" in told_of(failure(kind, tcp=DEAD, outq=512), Clues())) == silent
    assert not told_of(failure(kind, tcp=DEAD), Clues())
    assert not told_of(failure(kind, outq=512), Clues())


@pytest.mark.parametrize(
    ("facts", "told"), [({}, True), ({"last_ack_recv": 999}, False), ({"total_retrans": 0}, False)]
)
def test_silence_is_told_from_a_second_on_if_something_was_sent_in_vain(facts: dict[str, int], *, told: bool) -> None:
    silent = {"last_ack_recv": 1_000, "total_retrans": 1} | facts
    assert ("silence" in told_of(failure(Kind.TIMED_OUT, tcp=tcp(**silent), outq=1), Clues())) == told


def test_a_tenth_of_what_was_sent_is_much_loss() -> None:
    tenth = tcp(snd_mss=1448, bytes_sent=60_000, bytes_retrans=6_000)
    assert told_of(failure(Kind.TIMED_OUT, tcp=tenth), Clues()) == {"loss"}


def test_an_answer_of_an_hour_ago_is_the_last_that_says_that_something_was_there() -> None:
    refused = failure(Kind.CONNECTION_REFUSED, Phase.CONNECT)
    assert told_of(refused, Clues(answered=3600.0)) == {"stopped_answering"}
    assert told_of(refused, Clues(answered=3600.1)) == set()


def test_nothing_known_leaves_the_failure_as_it_is() -> None:
    for kind in Kind:
        for phase in Phase:
            what = failure(kind, phase)
            assert explain(what, Clues()) is what


OTHER_THINGS = [
    (failure(Kind.CONNECTION_RESET), Clues(idle=200.0, limit=limit())),
    (failure(Kind.CERTIFICATE_INVALID, Phase.TLS_HANDSHAKE), Clues(idle=350.4, limit=limit())),
    (RESET, Clues(idle=15.0)),
    (failure(Kind.CONNECTION_REFUSED, Phase.CONNECT), Clues(answered=4_000.0)),
    (failure(Kind.CONNECTION_RESET, Phase.RESPONSE_WAIT, delivery=Delivery.ACKED), Clues()),
    (failure(Kind.CONNECTION_RESET, Phase.RESPONSE_BODY, delivery=Delivery.ANSWERED), Clues()),
    (failure(Kind.LOCAL_TIMEOUT, Phase.RESPONSE_WAIT, delivery=Delivery.ANSWERED), Clues()),
    (failure(Kind.CONNECTION_REFUSED, Phase.CONNECT), Clues(streak=9)),
    (failure(Kind.UNEXPECTED_EOF, Phase.RESPONSE_WAIT, reused=True), Clues(streak=9)),
    (failure(Kind.TIMED_OUT, Phase.REQUEST_BODY, tcp=BIG_ONES, outq=100), Clues()),  # nothing of full size is queued
    (failure(Kind.TIMED_OUT, Phase.RESPONSE_WAIT, tcp=tcp(last_ack_recv=95_000), outq=0), Clues()),
    (
        failure(Kind.LOCAL_TIMEOUT, Phase.RESPONSE_WAIT, tcp=tcp(snd_mss=1448, bytes_sent=9_000, bytes_retrans=3_000)),
        Clues(),
    ),  # too little was sent to tell
]


@pytest.mark.parametrize(("what", "clues"), OTHER_THINGS)
def test_weak_evidence_does_not_claim_more_than_the_failure_itself(what: Failure, clues: Clues) -> None:
    assert not [rule.name for rule in RULES if rule.when(what, clues) and rule.name != "silence"]


def test_words_are_sentences_without_anything_of_the_peer() -> None:
    for rule in RULES:
        for text in (rule.cause, rule.remedy):
            places = {name for _, name, _, _ in string.Formatter().parse(text) if name}
            assert places <= {
                *("idle", "limit", "half", "safe", "nth", "path", "profile", "answered", "streak"),
                *("mss", "silence", "sent_again", "lost"),
            }
            assert text.endswith((".", "then.", "s."))


def test_a_message_says_how_sure_it_is() -> None:
    what = failure(Kind.CONNECTION_RESET, host="api.example", port=443)
    assert str(what.evolve(confidence=Confidence.LIKELY)).endswith("api.example:443. Likely cause: before before")
    assert str(what.evolve(confidence=Confidence.POSSIBLE)).endswith("api.example:443. Possible cause: before before")
    assert str(what.evolve(confidence=Confidence.CERTAIN)).endswith("api.example:443. before before")


def test_every_kind_says_how_sure_its_own_words_are() -> None:
    assert set(CONFIDENCE) <= set(WORDS)
    assert confidence_in(Kind.OTHER) is Confidence.UNKNOWN
    assert confidence_in(Kind.TIMED_OUT) is Confidence.LIKELY


def test_a_failure_evolves_into_a_copy_with_changes_and_stays_as_it_was() -> None:
    before = failure(Kind.CONNECTION_RESET, host="api.example", port=443, tcp=DEAD)
    after = before.evolve(phase=Phase.RESPONSE_WAIT, port=None)
    assert (after.phase, after.port, after.host, after.tcp) == (Phase.RESPONSE_WAIT, None, "api.example", DEAD)
    assert (before.phase, before.port) == (Phase.IDLE, 443)
    assert before.evolve() == before
    with pytest.raises(TypeError, match="a failure has no errnum; it has kind, category"):
        before.evolve(errnum=104)
