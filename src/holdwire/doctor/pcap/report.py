"""Concludes from an analysed capture what most likely went wrong. Pure: records in, ranked causes out.

Not responsible for finding the facts (``flows``, ``segments``) or for showing the causes (``cli``).

Each connection is judged by the rules below, in their order; a rule returns findings or nothing. Findings of the same
name become one ``Cause``. What is normal is no finding: a server that closes an idle connection, a client that closes
when it has its answer, a RST after both sides were through, a single "fragmentation needed" that was heeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from holdwire.doctor.cause import Cause
from holdwire.policy.phase import Phase

from .capture import CloseNotify, Event, EventKind, Who

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .capture import Capture, Connection, Side

__all__ = ["conclude"]

_IDLE: Final = 5.0
"""Seconds of silence from which an idle limit is suspected."""
_EVIDENCE: Final = 5
_ENDINGS: Final = frozenset({EventKind.FIN, EventKind.RST, EventKind.ALERT})
_MTU_WORDS: Final = ("fragmentation needed", "packet too big")
_WAITS: Final = frozenset({Phase.REQUEST_BODY, Phase.RESPONSE_WAIT})


class _Finding(NamedTuple):
    name: str
    confidence: float
    evidence: str


_ADVICE: Final[dict[str, tuple[int, str]]] = {
    "refused": (2, "Nothing listens on that port, or a firewall rejects it: check the server process and the port."),
    "syn_dropped": (2, "Packets to that port vanish: check firewalls, security groups and routes on the way."),
    "syn_ack_lost": (2, "The server answers but the client never confirms: check the way back and asymmetric routing."),
    "unreachable": (2, "A router or host rejects the packets: check routes and the rules of the named device."),
    "not_tls": (3, "The answer is no TLS: check the port, and whether a proxy or plain-text service answers there."),
    "tls_version_mismatch": (3, "The two sides share no TLS version or cipher: compare their TLS settings."),
    "certificate_rejected": (
        3,
        "The client does not accept the server's certificate: check chain, name, expiry, clock.",
    ),
    "client_certificate_rejected": (3, "The server wants a client certificate, or another one: check the client's."),
    "server_name_rejected": (3, "The server does not know the name that the client asks for: check SNI and host name."),
    "tls_alert": (3, "One side ended TLS with an alert: look it up by its name, and in that side's log."),
    "reset_in_handshake": (3, "Compare with another network, and with and without SNI: inspection, or a wrong port."),
    "closed_in_handshake": (3, "The server closes instead of answering the handshake: see its log and its limits."),
    "no_handshake_answer": (6, "TCP works but TLS is not answered: the server is overloaded, or large packets vanish."),
    "middlebox_reset": (7, "The RST has another hop count than the peer: a firewall or balancer on the way sent it."),
    "idle_limit": (7, "Something forgets idle connections: send a heartbeat at half that time, or pool for less."),
    "stale_connection": (
        7,
        "The request crossed the server's close: keep idle connections for less than the server does.",
    ),
    "reset_by_server": (4, "The server's system cut the connection: look for a crash, a kill or a limit in its log."),
    "reset_by_client": (8, "The client cut the connection: look for its time-outs, cancellations and crashes."),
    "closed_without_answer": (4, "The server closed instead of answering: look in its log and at its request limits."),
    "truncated": (4, "The stream ends inside a TLS record: data is missing. Look for a crash or limit at the sender."),
    "no_close_notify": (8, "Without close_notify an end cannot be told from a cut: let that side shut TLS down first."),
    "no_answer": (6, "The server took the request and did not answer: look at its load, pools and back ends."),
    "client_closed_early": (
        8,
        "The client closed before the answer came: compare its time-outs with the answer times.",
    ),
    "mtu_black_hole": (2, "Large packets vanish: let ICMP 'too big' pass, clamp the MSS, or lower the MTU."),
    "path_dead": (
        2,
        "Packets stopped arriving in mid-connection: check the path, NAT, and whether the peer still runs.",
    ),
    "slow_receiver": (6, "The receiver's program does not read: look at its CPU, its locks and its back-pressure."),
    "packet_loss": (2, "The path loses packets: check interfaces, radio links, policers and congestion."),
}


def conclude(capture: Capture) -> list[Cause]:
    """The likely causes of what went wrong, the most likely first; empty if nothing did."""
    findings: dict[str, list[_Finding]] = {}
    end = (capture.started or 0.0) + capture.duration
    for connection in capture.connections:
        for finding in _judge(connection, end):
            findings.setdefault(finding.name, []).append(finding)
    causes: list[Cause] = []
    for name, found in findings.items():
        found.sort(key=lambda finding: -finding.confidence)
        evidence = [finding.evidence for finding in found[:_EVIDENCE]]
        if len(found) > _EVIDENCE:
            evidence.append(f"and {len(found) - _EVIDENCE} more connections")
        step, advice = _ADVICE[name]
        causes.append(
            Cause(
                name=name,
                confidence=found[0].confidence,
                evidence=tuple(evidence),
                advice=advice,
                guide_step=step,
            )
        )
    return sorted(causes, key=lambda cause: (-cause.confidence, -len(findings[cause.name])))


def _judge(connection: Connection, capture_end: float) -> Iterator[_Finding]:
    if not connection.established:
        yield from _setup(connection, capture_end)
        return
    too_big = list(_too_big(connection))
    dead = too_big or list(_dead(connection))
    yield from dead
    if not dead:
        if connection.tls is not None and not connection.tls.established:
            yield from _handshake(connection)
        else:
            yield from _ending(connection)
    yield from _slow(connection)
    yield from _loss(connection)


def _setup(connection: Connection, capture_end: float) -> Iterator[_Finding]:
    client, server = connection.client, connection.server
    complaints = [event for event in connection.events if event.kind is EventKind.ICMP]
    if server.rst_at is not None:
        yield _Finding("refused", 0.95, f"{connection.name}: the SYN was answered with RST at {server.rst_at:.3f} s")
    elif complaints:
        yield _Finding("unreachable", 0.95, f"{connection.name}: {complaints[0].detail}")
    elif server.packets:
        if server.fruitless:
            text = f"{connection.name}: SYN-ACK sent {server.fruitless + 1} times and never confirmed"
            yield _Finding("syn_ack_lost", 0.7, text)
    elif client.fruitless or capture_end - connection.started > 1:
        confidence = 0.9 if client.fruitless > 1 else 0.6
        yield _Finding("syn_dropped", confidence, f"{connection.name}: {client.packets} SYN, no answer of any kind")


def _first_ending(connection: Connection) -> Event | None:
    endings = (e for e in connection.events if e.kind in _ENDINGS and not e.detail.startswith("close_notify (0)"))
    return next(endings, None)


def _handshake(connection: Connection) -> Iterator[_Finding]:
    client, server, tls = connection.client, connection.server, connection.tls
    first = _first_ending(connection)
    name = connection.name
    if server.bytes and not server.tls_records and server.close_notify is None and client.tls_records:
        yield _Finding("not_tls", 0.85, f"{name}: ClientHello answered with {server.bytes} bytes that are not TLS")
    elif first is not None and first.kind is EventKind.ALERT:
        yield _alert(connection, first)
    elif tls is not None and tls.client_gave_up:
        text = f"{name}: the client sent an encrypted alert where its Finished was due"
        yield _Finding("certificate_rejected", 0.7, text)
    elif first is None or (first.by is Who.CLIENT and first.silence >= 1):
        if first is not None or connection.client.fruitless:
            since = first.silence if first is not None else connection.duration
            yield _Finding("no_handshake_answer", 0.7, f"{name}: handshake not finished after {since:.1f} s of silence")
    elif first.by is Who.CLIENT:
        yield _Finding("client_closed_early", 0.5, f"{name}: the client ended the TLS handshake ({first.kind})")
    elif first.kind is EventKind.RST:
        yield _middlebox(connection, first) or _Finding(
            "reset_in_handshake", 0.8, f"{name}: RST from the server {first.at:.3f} s into the connection"
        )
    else:
        yield _Finding("closed_in_handshake", 0.8, f"{name}: FIN from the server at {first.at:.3f} s")


def _alert(connection: Connection, event: Event) -> _Finding:
    alert = connection.side(event.by).alerts[0]
    number, by_client = alert.description, event.by is Who.CLIENT
    text = f"{connection.name}: {event.by} sent alert {event.detail}"
    if number in {40, 70, 71, 86}:
        offered = " ".join(connection.tls.offered) if connection.tls else ""
        name, text = "tls_version_mismatch", text + (f"; the client offered {offered}" if offered else "")
    elif 42 <= number <= 49 or number in {113, 116}:
        name = "certificate_rejected" if by_client else "client_certificate_rejected"
    elif number == 112:
        name = "server_name_rejected"
    else:
        name = "tls_alert"
    return _Finding(name, 0.9, text)


def _middlebox(connection: Connection, event: Event) -> _Finding | None:
    """A RST that did not come as far as the other packets of the side in whose name it was sent."""
    side = connection.side(event.by)
    if side.hop_limit is None or side.rst_hop_limit is None or abs(side.hop_limit - side.rst_hop_limit) <= 1:
        return None
    text = f"{connection.name}: RST as if from the {event.by}, TTL {side.rst_hop_limit} instead of {side.hop_limit}"
    return _Finding("middlebox_reset", 0.85, f"{text}, in phase {event.phase}")


def _ending(connection: Connection) -> Iterator[_Finding]:
    client, server = connection.client, connection.server
    first = _first_ending(connection)
    if first is None:
        return
    if first.kind is EventKind.ALERT:
        yield _alert(connection, first)
        return
    after_close = server.fin_at is not None and connection.waiting and first.by is Who.SERVER
    if first.kind is EventKind.FIN and after_close and first.phase not in _WAITS:
        text = f"{connection.name}: request sent after the server's FIN at {server.fin_at:.3f} s"
        yield _Finding("stale_connection", 0.85, f"{text} ({first.silence:.1f} s idle)")
    elif first.kind is EventKind.RST:
        if first.phase is not Phase.SHUTDOWN:
            yield _middlebox(connection, first) or _reset(connection, first)
    elif first.by is Who.SERVER:
        yield from _closed_by_server(connection, first)
    elif first.phase in _WAITS:
        if first.silence >= 1:
            text = f"{connection.name}: the client closed after {first.silence:.1f} s without an answer"
            yield _Finding("no_answer", 0.75, text)
        elif connection.server.fin_at is None or client.rst_at is not None:
            yield _Finding("client_closed_early", 0.4, f"{connection.name}: the client closed before an answer came")


def _reset(connection: Connection, event: Event) -> _Finding:
    name, client = connection.name, connection.client
    if event.by is Who.CLIENT:
        if event.phase in _WAITS and event.silence >= 1:
            return _Finding(
                "no_answer", 0.7, f"{name}: the client gave up after {event.silence:.1f} s without an answer"
            )
        return _Finding("reset_by_client", 0.6, f"{name}: RST from the client in phase {event.phase}")
    if event.phase is Phase.IDLE and event.silence >= _IDLE:
        return _Finding("idle_limit", 0.8, f"{name}: RST from the server after {event.silence:.1f} s of silence")
    if event.phase in _WAITS and client.silence_before >= _IDLE:
        text = f"{name}: RST from the server in answer to the first data after {client.silence_before:.1f} s of silence"
        return _Finding("idle_limit", 0.8, text)
    return _Finding("reset_by_server", 0.8, f"{name}: RST from the server in phase {event.phase}")


def _closed_by_server(connection: Connection, event: Event) -> Iterator[_Finding]:
    name, server = connection.name, connection.server
    if server.close_notify is CloseNotify.TRUNCATED:
        yield _Finding("truncated", 0.95, f"{name}: FIN from the server inside a TLS record")
    elif event.phase in _WAITS:
        text = f"{name}: FIN from the server {event.silence:.3f} s after the request, no answer"
        yield _Finding("closed_without_answer", 0.8, text)
    elif event.phase is Phase.POST_HANDSHAKE and server.close_notify is CloseNotify.LIKELY and not connection.exchanges:
        text = f"{name}: the server sent an encrypted alert and closed right after the handshake"
        yield _Finding("client_certificate_rejected", 0.4, text)
    elif server.close_notify is CloseNotify.NO and event.phase is not Phase.IDLE:
        yield _Finding("no_close_notify", 0.3, f"{name}: FIN from the server without close_notify in {event.phase}")


def _too_big(connection: Connection) -> Iterator[_Finding]:
    complaints = [e for e in connection.events if e.kind is EventKind.ICMP and e.detail.startswith(_MTU_WORDS)]
    count = sum(event.count for event in complaints)
    repeated = connection.client.retransmissions + connection.server.retransmissions
    if count > 1 and repeated > 1:
        text = f"{connection.name}: {complaints[0].detail}, {count} times, {repeated} retransmissions"
        yield _Finding("mtu_black_hole", 0.9, text)


def _dead(connection: Connection) -> Iterator[_Finding]:
    """One side sends, and nothing of the other side shows that it arrives."""
    for who in Who.CLIENT, Who.SERVER:
        side = connection.side(who)
        peer = connection.side(Who.SERVER if who is Who.CLIENT else Who.CLIENT)
        if peer.rst_at is not None:
            continue
        name = connection.name
        if side.stuck_segment and side.fruitless > 1 and side.unacknowledged:
            text = f"{name}: {side.unacknowledged} bytes from the {who} unacknowledged, sent {side.fruitless + 1} times"
            if side.stuck_segment > max(side.passed_segment, 1000) and side.silence_before < _IDLE:
                detail = f"{side.stuck_segment} bytes do not pass, {side.passed_segment} bytes did"
                yield _Finding("mtu_black_hole", 0.75 if side.passed_segment else 0.6, f"{text}: {detail}")
            elif side.silence_before >= _IDLE:
                yield _Finding("idle_limit", 0.85, f"{text}, after {side.silence_before:.1f} s of silence")
            else:
                yield _Finding("path_dead", 0.75, text)
        elif side.unanswered_probes > 1:
            yield _Finding(
                "path_dead", 0.8, f"{name}: {side.unanswered_probes} keepalive probes of the {who} unanswered"
            )


def _slow(connection: Connection) -> Iterator[_Finding]:
    for who in Who.CLIENT, Who.SERVER:
        side = connection.side(who)
        if side.closed_window >= 1:
            text = f"{connection.name}: the {who} kept its window closed for {side.closed_window:.1f} s"
            yield _Finding("slow_receiver", min(0.4 + side.closed_window / 20, 0.8), text)


def _loss(connection: Connection) -> Iterator[_Finding]:
    for who in Who.CLIENT, Who.SERVER:
        side: Side = connection.side(who)
        repeated = side.retransmissions + side.out_of_order  # near the receiver a repetition looks out of order
        if repeated >= 10 and repeated > 0.01 * side.packets:
            rate = repeated / side.packets
            text = f"{connection.name}: {repeated} of {side.packets} packets of the {who} were repeated or came late"
            yield _Finding("packet_loss", round(min(0.4 + 4 * rate, 0.7), 2), f"{text} ({rate:.1%})")
