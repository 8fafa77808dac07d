"""Why every setting has the default that it has, what every attribute means, and where each profile's limit is from.

Words only, keyed by the names in the code; the generator refuses a name that has none here. Not responsible for the
defaults themselves: those are read from the code.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ATTRIBUTES", "MEMBERS", "PROFILE_SOURCES", "SETTINGS", "SPANS"]

_CLIENT: Final = {
    "profile": "What is known about the path, by [name](profiles.md). It sets the three below together; without one "
    "`default` counts, whose numbers suit paths that nobody has told us about.",
    "keepalive": "From the profile: 60/15/90 by default, on every connection, because a path that dies silently is "
    "found by nothing else. `None` leaves the system's two hours.",
    "heartbeat": "HTTP/2 is asked by PING on a schedule (30, 60, 120, 310 s of silence) that a gRPC server with its "
    "defaults never calls abuse. A `Heartbeat` is a fixed interval, `None` switches PINGs off. HTTP/1.1 has no ping.",
    "pool": "From the profile. Explicit `limits=` win.",
    "retry": "`RetryPolicy()`. `None` leaves only retries that are proven safe and made at once.",
    "tls_truncation": 'A body that only the end of the connection delimits may have been cut: an error. `"accept"` is '
    "for servers that never end TLS properly.",
    "observers": "OpenTelemetry, the log and the list of recent failures are told always; yours come besides.",
}
_STREAM: Final = {
    "tls": "A `tls://` URL, or True: the system's authorities. A context of your own is used as it is.",
    "server_hostname": "The host.",
    "alpn": "Nothing is offered.",
    "tls_truncation": "As for HTTP: an end without close_notify is an error.",
    "resume": "Resuming saves a round trip and a certificate; sessions are never shared between contexts or names.",
    "profile": "Sets `keepalive`.",
    "keepalive": "From the profile.",
    "heartbeat": "None: what to send is your protocol's affair. [Ready-made ones](api/sessions.md).",
    "proxy": "None: the environment's proxies are for HTTP.",
    "connect_timeout": "For name, connection and TLS together: longer than any sane set-up, shorter than a caller's "
    "patience.",
    "local_address": "The kernel's choice.",
    "socket_options": "None; they win over `keepalive`.",
    "observers": _CLIENT["observers"],
}

SETTINGS: Final[dict[str, dict[str, str]]] = {
    "ResilientTransport": _CLIENT,
    "request": {
        "idempotent": "By the method, and by an `Idempotency-Key`. True lets a POST be repeated that the server "
        "recognises; False forbids it for a GET that is not one.",
        "deadline": "None: the policy's. Seconds for all attempts and pauses until the answer's head is there.",
        "tls_truncation": "The transport's.",
    },
    "RetryPolicy": {
        "stop": "Five attempts outlast a restart behind a balancer; more only add load.",
        "wait": "Full jitter: clients that failed together do not come back together.",
        "statuses": "None: a status is an answer until you say otherwise. The protocol's own (425, 421, 408 with "
        "close) are always seen to.",
        "never": "No kind of failure is excluded.",
        "any_method_429": "A 429 says that nothing was done, but not every server means it.",
        "timeouts": "A limit that you set is a promise to you: it surfaces.",
        "deadline": "None: your time-outs hold for each attempt. [The worst cases](../retries.md) are bounded.",
        "retry_after_cap": "Who is asked to wait longer than this should hear of it at once.",
        "stale_proof": "A FIN that is seen after the write proves nothing: measured servers executed such requests.",
        "names_may_appear": "A name that does not exist is a typing error, except in a cluster (profile `k8s`).",
        "share": "Retries may add a fifth to a server's load, not more.",
        "floor": "A client that makes few requests may retry all the same: one each second.",
        "budget": "Each transport has its own.",
        "connect_rounds": "Four rounds over all addresses with at most 3 s of pauses; httpx's `retries=N` makes N + 1.",
    },
    "PoolPolicy": {
        "idle": "Below the 60 s at which the commonest balancers close. Without holdwire httpx drops connections "
        "after 5 s, because nothing would notice their death; here idle connections are watched.",
        "max_age": "Lets load spread to new servers and names to new addresses; ±10 %, drained, never cut.",
        "max_requests": "None: servers that want a limit say so.",
        "learn": 'Learnt idle limits are told; `"apply"` acts on them, after three episodes.',
    },
    "Keepalive": {
        "idle": "Below every idle limit that TCP's own probes can reset, with room for a lost probe.",
        "interval": "Two probes before `dead_after`.",
        "dead_after": "Also TCP_USER_TIMEOUT: the kernel alone would go on for a quarter of an hour. At least 5 s.",
    },
    "Heartbeat": {
        "interval": "Has no default: it is the reason to write one. HTTP/2 raises it to 10 s.",
        "timeout": "Longer than any living peer's pause; it grows with measured round trips.",
        "probe": "None on HTTP/2, where it is a PING; sessions need one.",
        "is_reply": "None: any byte is life. With it, round trips are measured.",
        "direction": "Most protocols ask whether the peer still sends; MQTT wants to hear from the client.",
        "jitter": "Beats of many connections spread out.",
        "while_idle": "A connection that nobody uses need not cost the server PINGs; it is probed before its next use.",
    },
    "RetryBudget": {
        "share": "As of `RetryPolicy`.",
        "floor": "As of `RetryPolicy`.",
        "window": "Long enough to average, short enough to forget an outage.",
    },
    "connect": _STREAM,
    "sessions": {
        "on_connect": "Nothing: the session is given out once it is connected.",
        "login_timeout": "A login that hangs is no session; it is tried again.",
        "reconnect": "`ReconnectPolicy()`.",
        "max_age": "None: a session lives as long as it can.",
    },
    "ReconnectPolicy": {
        "wait": "`backoff`'s pauses.",
        "stop": "A service outlives its peer's outage. What cannot get better (certificate, permission, a name that "
        "never was) stops by itself.",
        "waits": "None; a kind or category may have its own.",
        "backoff": "`Backoff()`, below.",
    },
    "Backoff": {
        "base": "The first pause is 0.5 to 1 s.",
        "cap": "After an outage of any length everybody is back within half a minute.",
        "spread": "The first reconnect after a stable session is almost at once; 5 suits a fleet.",
    },
    "sse": {
        "method": "As the standard has it.",
        "headers": "`Accept` and `Cache-Control`.",
        "last_event_id": "From the beginning.",
        "idle": "Three times the server's usual pause, 15 to 90 s: a silent stream is a dead one.",
        "progress": "None: comments alone may be all that there is to say.",
        "reconnect": "`ReconnectPolicy()`; the server's `retry:` can only make pauses longer.",
    },
    "instrument": {
        "tracer_provider": "OpenTelemetry's global one, also if it is set later.",
        "meter_provider": "The same for metrics.",
        "failure_spans": 'Failures hang below the request. `"root+link"` gives them a sampling decision of their own.',
        "setup_parent": "The request that caused a connection pays for it, so it shows there.",
        "emit_client_spans": "OpenTelemetry's instrumentation of httpx makes them. True is for programs without it.",
        "peer_hash_key": "Addresses are readable. With a key they are hashes.",
    },
    "set_testing": {
        "enabled": "False puts everything back.",
        "attempts": "A test sees the first failure.",
        "pauses": "A test does not wait.",
    },
}
"""By owner and name: the reason of the default. What is not listed of an owner is explained in its docstring."""

ATTRIBUTES: Final[dict[str, str]] = {
    "error.type": "The kind of failure: [the closed list](failures.md).",
    "holdwire.cause": "What most likely caused it, in one sentence of a closed set (numbers of the origin's own "
    "history may be in it).",
    "holdwire.cause.confidence": "How sure that is: `certain`, `likely`, `possible`, `unknown`.",
    "holdwire.close.reason": "Why a connection ended.",
    "holdwire.connection.age": "Seconds since the connection stood.",
    "holdwire.connection.flight": "What happened on the connection last, in one line.",
    "holdwire.connection.id": "Ours; the same in every span of a connection.",
    "holdwire.connection.idle": "Seconds since the last successful I/O on the connection.",
    "holdwire.connection.requests": "Requests that the connection had served.",
    "holdwire.envoy_flag": "The response flag by which Envoy reports such a failure (UF, UC, UT ...).",
    "holdwire.errno.name": "The errno's name, or getaddrinfo's.",
    "holdwire.errno.number": "The errno; 0 is an end of file without one.",
    "holdwire.fault_side": "Whose fault it most likely was: `peer`, `local`, `path`, `unknown`.",
    "holdwire.heartbeat.kind": "What was sent: `http2_ping`, `ws_ping` ...",
    "holdwire.idle_deaths": "How many idle connections of the origin died at once, told as one.",
    "holdwire.outcome": "`ok`, `recovered` (failed at least once, then answered) or `failed`.",
    "holdwire.phase": "Where it happened: [the phases](failures.md).",
    "holdwire.remedy": "What to do or to look at.",
    "holdwire.request.delivery": "What became of the request's bytes: `not_sent`, `sent_unacked`, `acked`, `answered`.",
    "holdwire.request.discarded": "Bytes that waited when the connection was given up, and never arrive.",
    "holdwire.request.fin_before_write": "All signs are that the peer had closed before the request was written.",
    "holdwire.request.sent": "How much of the request the kernel took: `none`, `part`, `all`.",
    "holdwire.retry.decision": "`retried`, `not_idempotent`, `budget_exhausted`, `fatal` or `none`.",
    "holdwire.retry.reason": "[The reason](retry-table.md) of the verdict.",
    "holdwire.retry.safe": "Whether sending the request again cannot execute it twice.",
    "holdwire.silence": "Seconds of silence on the connection before this request used it.",
    "holdwire.ssl.error": "OpenSSL's class of error; `SSL_ERROR_SYSCALL` is derived by holdwire.",
    "holdwire.ssl.reason": "OpenSSL's reason.",
    "holdwire.suppressed": "How many similar failures were held back before this one.",
    "holdwire.syscall": "The call that failed: `connect`, `send`, `recv`, `getaddrinfo` ...",
    "holdwire.tcp.bytes_acked": "Bytes that the peer's kernel acknowledged.",
    "holdwire.tcp.bytes_sent": "Bytes sent, retransmissions included.",
    "holdwire.tcp.last_ack_recv": "Milliseconds since the peer's last acknowledgement.",
    "holdwire.tcp.last_data_recv": "Milliseconds since the peer's last data.",
    "holdwire.tcp.min_rtt": "The smallest round trip seen, in microseconds.",
    "holdwire.tcp.notsent": "Bytes in our kernel that were never sent.",
    "holdwire.tcp.outq": "Bytes in our kernel that were not acknowledged, sent or not.",
    "holdwire.tcp.pmtu": "The path MTU as the kernel knows it.",
    "holdwire.tcp.retransmits": "Retransmissions in a row without an acknowledgement.",
    "holdwire.tcp.rto": "The retransmission time-out, in microseconds.",
    "holdwire.tcp.rtt": "The smoothed round trip, in microseconds.",
    "holdwire.tcp.snd_mss": "The segment size in use.",
    "holdwire.tcp.total_retrans": "Retransmissions in the connection's life.",
    "holdwire.tcp.total_rto": "Retransmission time-outs in the connection's life.",
    "holdwire.tcp.total_rto_time": "Milliseconds spent in them.",
    "holdwire.tcp.unacked": "Segments in flight.",
    "holdwire.tls.alert.code": "The alert's number.",
    "holdwire.tls.alert.direction": "Who sent the alert.",
    "holdwire.tls.alert.name": "The alert's name.",
    "holdwire.tls.close_notify": "Which sides had said goodbye: `none`, `sent`, `received`, `both`.",
    "http.connection.state": "`active` or `idle`.",
    "http.request.method": "The method; `_OTHER` for an unknown one.",
    "http.request.resend_count": "How often the request had been sent before.",
    "network.connection.state": "TCP's state, as the semantic conventions spell it.",
    "network.local.port": "Our port, to find the connection in a capture.",
    "network.peer.address": "The address in use, or its hash.",
    "network.peer.port": "The port in use.",
    "network.protocol.version": "`1.1` or `2`.",
    "network.transport": "`tcp` or `unix`.",
    "network.type": "`ipv4` or `ipv6`.",
    "server.address": "The host of the origin.",
    "server.port": "The port of the origin.",
}

MEMBERS: Final[dict[str, str]] = {
    "Category.REFUSED": "The other side said no",
    "Category.UNREACHABLE": "There is no way to it",
    "Category.TIMED_OUT": "Nothing came back",
    "Category.PEER_CLOSED": "The peer, or something in between, ended the connection",
    "Category.DNS": "The name did not resolve",
    "Category.LOCAL_RESOURCE": "This host or process has run out of something",
    "Category.LOCAL_BUG": "This program used a socket wrongly",
    "Category.UNKNOWN": "Not in the tables: backs off, is never retried at once",
    "Action.NOW": "Again, at once",
    "Action.BACK_OFF": "Again, after a pause",
    "Action.LONG_BACK_OFF": "Again, after a long pause",
    "Action.NEVER": "It would fail again in the same way",
    "FaultSide.PEER": "The server, or its host",
    "FaultSide.LOCAL": "This program, or this host",
    "FaultSide.PATH": "What lies between",
    "FaultSide.UNKNOWN": "The evidence does not say",
    "Confidence.CERTAIN": "Nothing else looks like this",
    "Confidence.LIKELY": "Most often it is this",
    "Confidence.POSSIBLE": "One of several; the words name the commonest",
}
"""What members of enums mean that have no docstring in the code."""

SPANS: Final[dict[str, str]] = {
    "holdwire syscall_failure {syscall}": "A system call failed: the failure span. Status ERROR, one for each failure.",
    "holdwire connection_failure {phase}": "The same where no system call was involved: an alert, a GOAWAY, a limit.",
    "HTTP connection_setup {host}:{port}": "Setting a connection up; below it the steps.",
    "DNS lookup {host}": "A step.",
    "socket connect {host}:{port}": "A step; one for each address that was tried.",
    "proxy CONNECT {host}:{port}": "A step.",
    "TLS client handshake {host}": "A step.",
    "HTTP wait_for_connection {host}:{port}": "A request waited for the pool.",
    "holdwire reconnect {host}:{port}": "A session came back, or was given up; an event for each attempt.",
    "{method}": "Only with `emit_client_spans=True`: a CLIENT span for each attempt of a request.",
}
"""The names of spans, and when there is one."""

_AWS: Final = "Vendor documentation (Elastic Load Balancing, EC2 user guide)."
PROFILE_SOURCES: Final[dict[str, str]] = {
    "default": "A design rule: no path is assumed.",
    "aws-nlb": f"{_AWS} 60 to 6000 s can be configured, fixed for TLS listeners; the same for NAT gateway, gateway "
    "load balancer and network firewall.",
    "aws-ec2-conntrack": f"{_AWS} 350 s on Nitro v6, five days before.",
    "aws-alb": f"{_AWS} It says that an HTTP/2 PING does not reset the timer.",
    "aws-clb": f"{_AWS} It says that TCP keepalive does not prevent the close.",
    "aws-global-accelerator": "Issue reports (encode/httpcore #1079, #1080), not the vendor.",
    "azure-lb": "Vendor documentation: 4 minutes by default, configurable; a RST at the limit has to be enabled.",
    "gcp-vpc": "Vendor documentation: 600 s of connection tracking.",
    "gcp-lb": "Vendor documentation: 610 s towards clients, 600 s towards back ends. WebSockets are cut by the "
    "back-end time-out of 30 s **in total**. Whether a PING resets the timer is not documented.",
    "gcp-cloud-nat": "Vendor documentation: 1200 s for established connections.",
    "cloudflare": "Vendor documentation: 400 s idle; besides, 100 to 120 s for a response, then status 524. Whether a "
    "PING resets the timer is not documented.",
    "k8s": "Vendor documentation of kube-proxy's ipvs mode (900 s); iptables mode has the host's 86,400 s.",
    "linux-conntrack": "The kernel's `nf_conntrack_tcp_timeout_established`.",
    "mobile": "Not verified: carriers are known for 60 to 900 s, so this limit recognises nothing.",
    "lan": "A design rule: on a network of your own, failing fast is cheap.",
}
