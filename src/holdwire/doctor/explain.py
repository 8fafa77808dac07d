"""Recognises errors in text and says what they mean: names, numbers, OpenSSL reasons, log lines, tracebacks.

``explain`` finds the codes; what they mean comes from the tables of ``policy``, phase by phase. Works offline and
looks at nothing but the text. Not responsible for showing it (``cli.explain``).

How a code is found, in this order: a name (ECONNRESET, WSAECONNRESET, EAI_AGAIN, SSL_ERROR_SYSCALL, an OpenSSL reason);
a number where the text says that it is one ("[Errno 104]", "os error 104", "(104: ", WinError 10054), or is nothing
else; a phrase of a system or a well-known program; a kind of holdwire's (heartbeat_lost), which others may use as a
word, where nothing else stands or the line is ours. An SSLError's number is no errno and is not read as one.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..policy import codes, diagnosis, taxonomy
from ..policy.failure import Failure, TlsDetail
from ..policy.kind import Action, Category, Kind
from ..policy.phase import Phase
from ..policy.words import words_for
from .phrases import CODES, LINES, PHASES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..policy.taxonomy import Classification

__all__ = ["Explanation", "Meaning", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a code means in some phases: the likely cause, what to check, and what holdwire does about it."""

    phases: tuple[str, ...]
    cause: str
    check: str
    holdwire: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One code that was recognised. ``found`` is the text that led to it, ``seen`` how often it was seen."""

    code: str
    found: str
    summary: str
    meanings: tuple[Meaning, ...]
    seen: int = 1


_SITUATIONS: Final[tuple[tuple[str, Phase, bool], ...]] = (
    ("connect", Phase.CONNECT, False),
    ("tls_handshake", Phase.TLS_HANDSHAKE, False),
    ("idle", Phase.IDLE, True),
    ("request", Phase.REQUEST_BODY, False),
    ("response_wait", Phase.RESPONSE_WAIT, False),
    ("response_wait on a reused connection", Phase.RESPONSE_WAIT, True),
    ("response_body", Phase.RESPONSE_BODY, False),
)
_ELSEWHERE: Final = tuple((phase.value, phase, False) for phase in (Phase.PROXY, Phase.UPGRADED, Phase.HEARTBEAT))
_VERIFY: Final = {name: number for number, name in codes.VERIFY_CODES.items()}
_NEVER_IN_CONNECT: Final = frozenset({"EPIPE", "ESHUTDOWN", "EPROTOTYPE", "WSAEDISCON"})

_KNOWN_AS: Final[dict[str, str]] = {
    Kind.CONNECTION_REFUSED: "ECONNREFUSED",
    Kind.HOST_UNREACHABLE: "EHOSTUNREACH",
    Kind.NETWORK_UNREACHABLE: "ENETUNREACH",
    Kind.NETWORK_DOWN: "ENETDOWN",
    Kind.TIMED_OUT: "ETIMEDOUT",
    Kind.CONNECTION_RESET: "ECONNRESET",
    Kind.CONNECTION_ABORTED: "ECONNABORTED",
    Kind.BROKEN_PIPE: "EPIPE",
    Kind.BAD_FILE_DESCRIPTOR: "EBADF",
    Kind.NO_FILE_DESCRIPTORS: "EMFILE",
    Kind.NO_BUFFER_SPACE_AVAILABLE: "ENOBUFS",
    Kind.ADDRESS_NOT_AVAILABLE: "EADDRNOTAVAIL",
    Kind.ADDRESS_ALREADY_IN_USE: "EADDRINUSE",
    Kind.ACCESS_DENIED: "EACCES",
    Kind.CERTIFICATE_INVALID: "CERTIFICATE_VERIFY_FAILED",
    Kind.POOL_TIMEOUT: "POOL_TIMEOUT",
    Kind.LOCAL_TIMEOUT: "LOCAL_TIMEOUT",
}
"""Kinds that are explained as a code."""
_ASKED: Final = frozenset({Phase.REQUEST_BODY, Phase.RESPONSE_WAIT, Phase.RESPONSE_BODY})
_BY_KIND: Final[dict[str, tuple[str, frozenset[Phase]]]] = {
    Kind.UNEXPECTED_EOF: (
        "the connection ended without an errno and without the words that end it",
        frozenset(Phase) - {Phase.CONNECT, Phase.HEARTBEAT},
    ),
    Kind.PROXY_REFUSED: ("the proxy opened no tunnel", frozenset({Phase.PROXY})),
    Kind.HTTP2_GOAWAY: ("the server closes the HTTP/2 connection (GOAWAY)", _ASKED),
    Kind.HTTP2_STREAM_RESET: ("the server ended one HTTP/2 stream (RST_STREAM)", _ASKED),
    Kind.HTTP_PROTOCOL_ERROR: ("the answer breaks the protocol", _ASKED | {Phase.PROXY}),
    Kind.HEARTBEAT_LOST: ("the peer gave no sign of life", _ASKED | {Phase.HEARTBEAT}),
}
"""Kinds that no code stands for: what happened, and where they are met."""
_VAGUE: Final = frozenset({Kind.NAME_RESOLUTION_ERROR, Kind.TLS_ALERT_RECEIVED, Kind.TLS_PROTOCOL_ERROR})
"""Kinds that nearly always stand beside a code that says more."""

_DOES: Final[dict[Action, str]] = {
    Action.NOW: "Drops the connection and tries once more at once on another one, where the request may be repeated.",
    Action.ADDRESS: "Tries the host's next address at once; when none is left, it backs off and tries again.",
    Action.BACK_OFF: "Backs off and tries again, as far as the retry policy allows.",
    Action.LONG_BACK_OFF: "Backs off for long, because haste makes this worse, and then tries again.",
    Action.NEVER: "Raises it at once with this explanation: the same attempt would fail the same way.",
    Action.WAIT: "Waits for the socket to be ready. Never a failure, never a span.",
}
_DOES_CONNECTED: Final[dict[Phase, str]] = {
    Phase.IDLE: "Notices it without a request, drops the connection, and opens another: nothing is lost.",
    Phase.RESPONSE_BODY: "Raises it: a cut answer is an error. The failure says how much had arrived.",
    Phase.UPGRADED: "Raises it; holdwire.sessions connects again, logs in, and says why.",
    Phase.HEARTBEAT: "Ends the connection, so that nobody waits on it for longer, and opens another.",
}
_PROVEN: Final = "Sends the request again only if it was proven unprocessed or may be repeated; else raises it."


def explain(text: str) -> list[Explanation]:
    """Everything in ``text`` that is known, each code once, in the order in which they appear."""
    found: dict[str, tuple[str, set[Phase], int]] = {}
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        phases = _phases(line)
        for code, piece in _codes(line, alone=len(lines) == 1):
            earlier = found.get(code)
            if earlier is None:
                found[code] = (piece, phases, 1)
            else:
                found[code] = (earlier[0], earlier[1] | phases, earlier[2] + 1)
    return [_explanation(code, piece, phases, seen) for code, (piece, phases, seen) in found.items()]


_OURS: Final = re.compile(rf"\bin phase ({'|'.join(Phase)})\b")


def _phases(line: str) -> set[Phase]:
    """Where it happened, as far as ``line`` says: in a message of holdwire's own, nothing but its phase counts."""
    ours = _OURS.search(line)
    if ours is not None:
        phase = Phase(ours[1])
        return {Phase.REQUEST_BODY if phase is Phase.REQUEST_HEADERS else phase}
    return {phase for pattern, phase in PHASES if pattern.search(line)}


_WORD: Final = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*\b")
_NUMBER: Final = re.compile(
    r"(\[Errno |\[WinError |\bWSA error |\bos error |\berrno[ =:]*(?:is )?|, errno: )(-?\d{1,5})\b"
    r"|\((\d{1,5}): |\((-?\d{1,5})\)$",
    re.IGNORECASE,
)
_SSL: Final = re.compile(r"\bssl\.SSL|\bSSL\w*Error\b|\[SSL", re.IGNORECASE)
_KIND: Final = re.compile(rf"(?<![\w.])({'|'.join((*_KNOWN_AS, *_BY_KIND, *_VAGUE))})\b")
_TELLS_KIND: Final = re.compile(r"error[._]type")
_ALERT: Final = re.compile(r"\balert(?: number)? (\d{1,3})\b", re.IGNORECASE)


def _codes(line: str, *, alone: bool) -> Iterator[tuple[str, str]]:
    """The codes in one line; the same code may come more than once, it counts once."""
    told: set[str] = set()
    for code, piece in _raw_codes(line, alone=alone):
        if code not in told:
            told.add(code)
            yield code, piece
    if _KIND.fullmatch(line.strip()) or _OURS.search(line) or _TELLS_KIND.search(line):
        for match in _KIND.finditer(line):
            code = _KNOWN_AS.get(match[0], match[0])
            if code not in told and not (told and code in _VAGUE):
                told.add(code)
                yield code, match[0]


def _raw_codes(line: str, *, alone: bool) -> Iterator[tuple[str, str]]:  # noqa: C901 - one loop for each way of telling
    stripped = line.strip()
    if alone and re.fullmatch(r"-?\d{1,5}", stripped):
        names = (codes.canonical(name) for _, name in codes.names_of_number(int(stripped)))
        yield from ((name, stripped) for name in names if _is_errno(name))
        if not int(stripped):  # what is read beside SSL_ERROR_SYSCALL at an end of file
            yield Kind.UNEXPECTED_EOF, stripped
        return
    for match in _WORD.finditer(stripped.upper() if alone else stripped):
        word = codes.canonical(match[0])
        if word in CODES or word in _VERIFY or _is_errno(word) or _is_reason(word):
            yield word, match[0]
    for match in _ALERT.finditer(line):
        name = codes.ALERTS.get(int(match[1]), "close_notify")
        if name != "close_notify":
            yield f"TLSV1_ALERT_{name.upper()}", match[0]
    if not _SSL.search(line):
        for match in _NUMBER.finditer(stripped):
            windows = (match[1] or "").startswith("[Win")
            number = _name(int(match[2] or match[3] or match[4]), windows=windows)
            if number is not None:
                yield number, match[0].strip("([ :")
    for pattern, code in LINES:
        if found := pattern.search(line):
            yield code, found[0]


def _is_errno(name: str) -> bool:
    return name in codes.ERRNOS or name in codes.EAI


def _is_reason(word: str) -> bool:
    return word.removeprefix("SSL_") in taxonomy.TLS_TABLE or codes.alert_of_reason(word) is not None


def _name(number: int, *, windows: bool) -> str | None:
    """The name of a number that stands where an errno is told; negative ones are getaddrinfo's, or Node's errnos."""
    for name, row in codes.EAI.items():
        if row.linux == number:
            return name
    number = abs(number)
    found = codes.errno_name(number, "win32" if windows or number > 10000 else sys.platform)
    return found if found is not None and _is_errno(found) else None


def _explanation(code: str, piece: str, phases: set[Phase], seen: int) -> Explanation:
    if code in CODES:
        known = CODES[code]
        meaning = Meaning(phases=(), cause=known.cause, check=known.check, holdwire=known.holdwire)
        return Explanation(code=code, found=piece, summary=known.summary, meanings=(meaning,), seen=seen)
    return Explanation(
        code=code, found=piece, summary=_summary(code), meanings=tuple(_meanings(code, phases)), seen=seen
    )


def _summary(code: str) -> str:
    if code in _BY_KIND:
        return f"A kind of holdwire's (error.type): {_BY_KIND[code][0]}."
    if code in codes.EAI:
        return f"Name resolution failed: getaddrinfo() gave this code. {_numbers(codes.EAI[code])}".rstrip()
    if code in codes.ERRNOS:
        number = codes.ERRNOS[code].linux
        text = f"{os.strerror(number)}. " if number is not None and sys.platform == "linux" else ""
        return f"{text}{_numbers(codes.ERRNOS[code])}"
    if code in _VERIFY:
        return f"The peer's certificate did not pass verification (code {_VERIFY[code]})."
    alert = codes.alert_of_reason(code)
    if alert is not None:
        return f"The peer sent the TLS alert {codes.ALERTS[alert]} (number {alert})."
    return "A reason that OpenSSL gives for a TLS failure."


def _numbers(row: codes.Numbers) -> str:
    parts = [
        f"{number} on {platform}"
        for number, platform in zip(row, ("Linux", "macOS", "Windows"), strict=True)
        if number is not None
    ]
    return f"Number {', '.join(parts)}." if parts else ""


def _meanings(code: str, phases: set[Phase]) -> Iterator[Meaning]:
    """By phase; phases that mean the same are told together. Without a phase in the text, all are told."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for label, failure in _failures(code):
        if phases and failure.phase not in phases:
            continue
        cause, check = words_for(failure)
        groups.setdefault((cause, check, _does(failure)), []).append(label)
    if not groups and phases:
        yield from _meanings(code, set())
        return
    everywhere = len(groups) == 1
    for (cause, check, does), labels in groups.items():
        yield Meaning(phases=() if everywhere else tuple(labels), cause=cause, check=check, holdwire=does)


def _failures(code: str) -> Iterator[tuple[str, Failure]]:
    if code in _BY_KIND:
        yield from _failures_of_kind(Kind(code))
    elif code in codes.EAI:
        yield "dns", _failure(taxonomy.of_eai(code), Phase.DNS, errno_name=code)
    elif code in codes.ERRNOS:
        platform, number = next(
            (platform, number)
            for platform, number in zip(codes.Numbers._fields, codes.ERRNOS[code], strict=True)
            if number is not None
        )
        for label, phase, reused in _SITUATIONS:
            if phase is not Phase.CONNECT or code not in _NEVER_IN_CONNECT:
                found = taxonomy.of_errno(number, phase=phase, platform=platform)
                yield label, _failure(found, phase, errno_name=code, reused=reused)
    else:
        verify, alert = _VERIFY.get(code), codes.alert_of_reason(code)
        detail = TlsDetail(reason=code, verify_code=verify, alert=alert)
        found = taxonomy.of_tls(code, phase=Phase.TLS_HANDSHAKE, verify_code=verify, alert=alert)
        if found.kind is not Kind.UNEXPECTED_EOF:
            yield "tls_handshake", _failure(found, Phase.TLS_HANDSHAKE, tls=detail)
            return
        for label, phase, reused in _SITUATIONS:
            if phase is not Phase.CONNECT:
                yield label, _failure(taxonomy.of_eof(phase=phase), phase, tls=detail, reused=reused)


def _failures_of_kind(kind: Kind) -> Iterator[tuple[str, Failure]]:
    for label, phase, reused in (*_SITUATIONS, *_ELSEWHERE):
        if phase in _BY_KIND[kind][1]:
            facts: diagnosis.Facts = {"reused": reused}
            if kind is Kind.UNEXPECTED_EOF:
                yield label, diagnosis.from_eof(phase=phase, facts=facts)
            elif kind is Kind.HTTP_PROTOCOL_ERROR:
                yield label, diagnosis.from_protocol(phase=phase, facts=facts, detail=None)
            else:
                yield label, diagnosis.local(kind, phase=phase, facts=facts)


def _failure(
    found: Classification,
    phase: Phase,
    *,
    errno_name: str | None = None,
    tls: TlsDetail | None = None,
    reused: bool = False,
) -> Failure:
    return Failure(
        kind=found.kind,
        category=found.category,
        action=found.action,
        phase=phase,
        errno_name=errno_name,
        tls=tls,
        reused=reused,
        idle=60.0 if reused else None,
    )


def _does(failure: Failure) -> str:
    if failure.kind is Kind.NO_FILE_DESCRIPTORS:
        return "Closes idle connections of the pool, backs off once, and then raises it."
    if failure.category is Category.UNKNOWN:
        return "Backs off and tries at most three times: it does not know this code."
    if failure.action is Action.PHASE_TABLE:
        if failure.phase.is_setup:
            return _DOES[Action.ADDRESS]
        return _DOES_CONNECTED.get(failure.phase, _PROVEN)
    return _DOES[failure.action]
