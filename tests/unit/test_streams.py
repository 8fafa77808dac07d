"""Streams without a connection: where they go, and what the ready-made heartbeats say."""

from __future__ import annotations

import re

import anyio
import pytest

import holdwire
from holdwire import Heartbeat, probes


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"url": "http://h:1"}, holdwire.HoldwireError, "tcp://host:port"),
        ({"url": "tls://user:secret@h:1"}, ValueError, "on_connect"),
        ({"url": "tcp://h"}, ValueError, "port"),
        ({"url": "tcp://h:1", "host": "h"}, ValueError, "not both"),
        ({"url": "tcp://h:1/path"}, ValueError, "nothing more"),
        ({"url": "tcp://h:1?x=secret"}, ValueError, "query"),
        ({"url": "unix://"}, ValueError, "unix:///"),
        ({"host": "h"}, ValueError, "host= and port="),
        ({"host": "h", "port": 70000}, ValueError, "65535"),
        ({"url": "tls://h:1", "tls": False}, ValueError, "tcp://"),
        ({"url": "tcp://h:1", "server_hostname": "x"}, ValueError, "TLS"),
        ({"url": "tcp://h:1", "heartbeat": holdwire.Heartbeat(interval=1)}, ValueError, "probe"),
        ({"url": "tls://h:1", "tls_truncation": "maybe"}, ValueError, "accept"),
        ({"url": "tcp://h:1", "profile": "moon"}, ValueError, "profiles are"),
    ],
)
def test_wrong_arguments_say_what_to_give(arguments: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        holdwire.connect(**arguments)  # type: ignore[arg-type]
    assert "secret" not in str(raised.value)


class Sent:
    def __init__(self) -> None:
        self.data = b""

    async def send(self, item: bytes, /) -> None:
        self.data += item


@pytest.mark.parametrize(
    ("heartbeat", "sends", "answers", "others"),
    [
        (
            probes.redis(),
            rb"\*1\r\n\$4\r\nPING\r\n",
            [b"+PONG\r\n", b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", b">2\r\n$4\r\npong\r\n$0\r\n\r\n"],
            [b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"],
        ),
        (probes.mqtt(), rb"\xc0\x00", [b"\xd0\x00"], [b"\x30\x05\x00\x01a"]),
        (probes.imap(), rb"hw\d NOOP\r\n", [b"* 5 EXISTS\r\nhw1 OK done\r\n"], [b"* 5 EXISTS\r\n"]),
        (probes.imap_idle(), rb"DONE\r\nhw\d IDLE\r\n", [b"a1 OK idle done\r\n+ idling\r\n"], [b"* 5 EXISTS\r\n"]),
        (probes.line(b"PING", reply=b"PONG"), rb"PING\n", [b"PONG\n", b"x\nPONG 1\n"], [b"news\n"]),
        (probes.websocket(), rb"(?s)\x89\x8c.{16}", [b"\x8a\x0c" + b"x" * 12], [b"\x81\x02hi"]),
    ],
    ids=["redis", "mqtt", "imap", "imap-idle", "line", "websocket"],
)
def test_ready_made_probes_speak_their_protocol(
    heartbeat: Heartbeat, sends: bytes, answers: list[bytes], others: list[bytes]
) -> None:
    sent = Sent()
    if isinstance(heartbeat.probe, bytes):
        sent.data = heartbeat.probe
    elif heartbeat.probe is not None:
        anyio.run(heartbeat.probe, sent)
    assert re.fullmatch(sends, sent.data)
    assert heartbeat.is_reply is not None
    assert [heartbeat.is_reply(answer) for answer in answers] == [True] * len(answers)
    assert [heartbeat.is_reply(other) for other in others] == [None] * len(others)


def test_the_websocket_ping_is_a_frame_of_rfc_6455_and_follows_the_profile() -> None:
    assert probes.websocket(profile="aws-alb").interval == 20
    assert probes.websocket(profile="default").interval == 20
    short = holdwire.Profile(name="short", keepalive=holdwire.Keepalive(), idle_limit=10)
    assert probes.websocket(profile=short).interval == pytest.approx(4)
    assert probes.mqtt(keepalive=60).interval * 1.15 < 60, "with the jitter it still comes in time"
