"""The rungs ``http``, ``reuse`` and ``close``: one answer, a second one on the same connection, and how it ends."""

from __future__ import annotations

import email.utils
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio

from ...errors import ConnectionLost, DeadlineExceeded, HoldwireError
from ...policy.kind import Kind
from ...policy.phase import Phase
from ..case import Truncated, Violation, is_timeout
from ..record import Check, Sign, Verdict
from .addresses import later_sign
from .handshake import alert_sign

if TYPE_CHECKING:
    from ...net.stream import SocketStream
    from ...tls.stream import TLSStream
    from ..case import Answer, Case
    from ..record import Rung

__all__ = ["look", "look_at_close"]

_HTTP: Final = Check("http", 4, Phase.RESPONSE_WAIT, "See the server's log at this moment.")
_REUSE: Final = Check("reuse", 7, Phase.IDLE, "Measure the limit: holdwire idle.")
_CLOSE: Final = Check("close", 3, Phase.SHUTDOWN, "A capture tells who ended it: tcpdump, then holdwire pcap.")
_NO_ANSWER: Final = "no answer before"
_NO_END: Final = "the answer is a long one, whose end was not waited for: give another --path"
_OTHER: Final = "/"
_CUT: Final = frozenset({"reset_by_server", "closed_without_answer", "answer_cut"})
_PAUSE: Final = 1.0
_SKEW: Final = 60.0
_SLOW: Final = 3.0


async def look(case: Case, *, verify: bool) -> tuple[Rung, Rung]:
    """The rungs ``http`` and ``reuse``."""
    try:
        wire = await case.open(verify=verify)
    except HoldwireError as exc:
        sign = later_sign(case, exc)
        return _HTTP(_verdict(sign), f"no connection for it: {exc}", signs=sign), _REUSE(Verdict.SKIPPED, _NO_ANSWER)
    try:
        answer = await case.exchange(wire, case.request())
    except Violation as exc:
        wire.abort()
        return _HTTP(Verdict.SKIPPED, f"the port speaks no HTTP/1.1: {exc}"), _REUSE(Verdict.SKIPPED, _NO_ANSWER)
    except (HoldwireError, Truncated) as exc:
        rung = _no_answer(case, exc, wire)
        wire.abort()
        return await _compared(case, rung, verify=verify), _REUSE(Verdict.SKIPPED, _NO_ANSWER)
    except BaseException:
        wire.abort()
        raise
    try:
        again = await _again(case, wire, answer) if answer.complete else _REUSE(Verdict.SKIPPED, _NO_END)
        return _answered(answer), again
    finally:
        case.close(wire)


def _answered(answer: Answer) -> Rung:
    evidence: dict[str, Any] = {
        "status": answer.status,
        "first_byte_ms": round(answer.first_byte * 1000, 1),
        "whole_ms": round(answer.whole * 1000, 1),
        "body_bytes": answer.size,
        "server": answer.header(b"server"),
        "keep_alive": answer.header(b"keep-alive"),
    }
    signs: list[Sign] = []
    if answer.status in {502, 503, 504}:
        signs.append(Sign("gateway_error", 0.7, f"status {answer.status}"))
    elif answer.status >= 500:
        signs.append(Sign("server_error", 0.6, f"status {answer.status}"))
    date = answer.header(b"date")
    if date is not None and (skew := _skew(date)) is not None:
        evidence["clock_skew_s"] = round(skew, 1)
        if abs(skew) > _SKEW:
            signs.append(Sign("clock_skew", 0.45, f"the server's Date is {skew:+.0f} s from this host's clock"))
    if answer.first_byte > _SLOW:
        signs.append(Sign("slow", 0.4, f"{answer.first_byte:.1f} s to the first byte"))
    return _HTTP(
        Verdict.WARNING if signs else Verdict.OK,
        f"status {answer.status}, first byte after {answer.first_byte * 1000:.0f} ms, {answer.size} bytes"
        + ("" if answer.complete else " and no end yet"),
        evidence,
        signs=tuple(signs),
    )


def _no_answer(case: Case, exc: HoldwireError | Truncated, wire: SocketStream | TLSStream) -> Rung:
    failure = exc.failure if isinstance(exc, HoldwireError) else None
    if isinstance(exc, Truncated):
        sign = Sign("answer_cut", 0.85, str(exc))
    elif is_timeout(exc):
        info = wire.facts().get("tcp")
        if info is not None and info.unacked:
            sign = Sign("packet_loss", 0.6, f"the request is not acknowledged, {info.retransmits} retransmissions")
        else:
            sign = Sign(
                "server_not_answering", 0.7, f"the request was acknowledged, no answer within {case.timeout:g} s"
            )
    elif failure is not None and failure.kind is Kind.TLS_ALERT_RECEIVED:
        sign = alert_sign(failure)
    elif failure is not None and failure.kind is Kind.CONNECTION_RESET:
        sign = Sign("reset_by_server", 0.85, f"{failure.syscall}: ECONNRESET in phase {failure.phase}")
    else:
        sign = Sign("closed_without_answer", 0.8, "the server closed without an answer")
    errno = None if failure is None else failure.errno_name
    return _HTTP(Verdict.FAILED, str(failure or exc), {"errno": errno}, signs=[sign])


async def _compared(case: Case, rung: Rung, *, verify: bool) -> Rung:
    """``rung``, which failed; where another request is answered, only this one is cut."""
    if case.path == _OTHER or rung.signs[0].name not in _CUT:
        return rung
    try:
        wire = await case.open(verify=verify)
        try:
            answer = await case.exchange(wire, case.request(path=_OTHER))
        finally:
            case.close(wire)
    except (HoldwireError, Truncated, Violation):
        return rung
    sign = Sign("request_cut", 0.8, f"GET of the path that was asked for fails, GET {_OTHER}: status {answer.status}")
    return replace(rung, signs=(*rung.signs, sign))


async def _again(case: Case, wire: SocketStream | TLSStream, first: Answer) -> Rung:
    if not first.reusable:
        return _REUSE(Verdict.OK, "the server ends each connection after one answer")
    idle = {"idle_s": _PAUSE}
    try:
        data = await wire.read(65_536, _PAUSE)
    except DeadlineExceeded:
        pass
    except ConnectionLost as lost:
        failure = lost.failure
        if failure is not None and failure.kind is Kind.UNEXPECTED_EOF:
            evidence = "FIN without close_notify on an idle connection"
            return _REUSE(Verdict.WARNING, evidence, idle, signs=(Sign("no_close_notify", 0.25, evidence),))
        evidence = f"{failure.errno_name if failure else 'lost'} within {_PAUSE:g} s of silence"
        return _REUSE(Verdict.FAILED, str(failure), idle, signs=(Sign("idle_reset", 0.7, evidence),))
    else:
        what = "sent something unasked for" if data else "closed the connection"
        evidence = f"the server {what} within {_PAUSE:g} s of silence"
        return _REUSE(Verdict.WARNING, evidence, idle, signs=(Sign("idle_limit", 0.45, evidence),))
    try:
        answer = await case.exchange(wire, case.request())
    except (HoldwireError, Violation, Truncated) as exc:
        failure = exc.failure if isinstance(exc, HoldwireError) else None
        evidence = f"{failure.errno_name if failure and failure.errno_name else exc} after {_PAUSE:g} s of silence"
        return _REUSE(Verdict.FAILED, str(exc), idle, signs=(Sign("idle_reset", 0.7, evidence),))
    return _REUSE(
        Verdict.OK, f"a second answer on the same connection after {_PAUSE:g} s: status {answer.status}", idle
    )


async def look_at_close(case: Case, *, verify: bool) -> Rung:
    """The rung ``close``: how the server ends a connection that it was asked to end."""
    try:
        wire = await case.open(verify=verify)
    except HoldwireError as exc:
        return _CLOSE(Verdict.SKIPPED, f"no connection to end: {exc}", signs=later_sign(case, exc))
    try:
        answer = await case.exchange(wire, case.request(close=True))
        return await _end(case, wire) if answer.complete else _CLOSE(Verdict.SKIPPED, _NO_END)
    except (HoldwireError, Violation, Truncated) as exc:
        return _CLOSE(Verdict.SKIPPED, f"no answer to end: {exc}")
    finally:
        case.close(wire)


async def _end(case: Case, wire: SocketStream | TLSStream) -> Rung:
    began = time.monotonic()
    try:
        with anyio.move_on_after(case.timeout):
            while await wire.read(65_536, case.timeout):
                pass
    except DeadlineExceeded:
        return _CLOSE(Verdict.WARNING, f"still open {case.timeout:g} s after it was asked to close")
    except ConnectionLost as lost:
        failure = lost.failure
        if failure is not None and failure.kind is Kind.UNEXPECTED_EOF:
            evidence = "FIN without close_notify"
            return _CLOSE(Verdict.WARNING, evidence, signs=(Sign("no_close_notify", 0.25, evidence),))
        return _CLOSE(Verdict.WARNING, f"reset instead of an orderly end: {failure}")
    how = "close_notify and FIN" if case.target.secure else "FIN"
    return _CLOSE(Verdict.OK, f"{how}, {(time.monotonic() - began) * 1000:.0f} ms after the answer")


def _verdict(signs: tuple[Sign, ...]) -> Verdict:
    return Verdict.FAILED if signs else Verdict.SKIPPED


def _skew(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
