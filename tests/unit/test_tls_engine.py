"""The TLS engine without any I/O: what ends mean, what is latched, which alerts are told, what never raises."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdwire.policy.codes import ALERTS
from holdwire.testing.certificates import self_signed
from holdwire.tls.engine import Engine, Step, TlsFailure, Truncation, _sent_alert
from holdwire.tls.records import RecordTracker
from tests.tls_helpers import VERSIONS, Contexts
from tests.tls_peer import can_rekey, renegotiate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECRET = b"x" * 1000


class Link:
    """A client's and a server's engine; ``pass_on`` carries ciphertext until neither has any."""

    def __init__(self, contexts: Contexts, *, truncation: Truncation = "error", name: str = "localhost") -> None:
        self.client = Engine(contexts.client, server_hostname=name, truncation=truncation)
        self.server = Engine(contexts.server, server_side=True)

    def pass_on(self) -> None:
        while self.client.pending or self.server.pending:
            self.server.feed(self.client.take())
            self.client.feed(self.server.take())

    def shake_hands(self) -> Link:
        steps: list[Step] = []
        while steps != [Step.DONE, Step.DONE]:
            steps = [self.client.handshake()]
            self.pass_on()
            steps.append(self.server.handshake())
            self.pass_on()
        return self

    def from_server(self, data: bytes) -> bytes:
        assert self.server.write(data) is Step.DONE
        return self.server.take()


@pytest.fixture(params=list(VERSIONS))
def contexts(request: pytest.FixtureRequest) -> Contexts:
    return Contexts.of(self_signed(), request.param)


@pytest.fixture(params=["error", "accept"])
def truncation(request: pytest.FixtureRequest) -> Truncation:
    return "error" if request.param == "error" else "accept"


class TestTheEndOfTheStream:
    def test_a_close_notify_is_an_end_again_and_again_and_sending_goes_on(
        self, contexts: Contexts, truncation: Truncation
    ) -> None:
        link = Link(contexts, truncation=truncation).shake_hands()
        link.client.feed(link.from_server(SECRET))
        link.server.unwrap()
        link.client.feed(link.server.take())
        assert link.client.read(2000) == SECRET
        assert [link.client.read(10) for _ in range(3)] == [b"", b"", b""]
        assert link.client.ended
        link.client.feed_eof()
        assert link.client.read(10) == b""
        assert link.client.write(b"half") is Step.DONE
        link.server.feed(link.client.take())
        assert link.server.read(10) == b"half"

    def test_a_fin_between_two_records_is_an_end_only_for_who_accepts_it(
        self, contexts: Contexts, truncation: Truncation
    ) -> None:
        link = Link(contexts, truncation=truncation).shake_hands()
        link.client.feed(link.from_server(SECRET))
        link.client.feed_eof()
        assert link.client.read(2000) == SECRET
        for _ in range(3):
            if truncation == "accept":
                assert link.client.read(10) == b""
                continue
            with pytest.raises(TlsFailure) as caught:
                link.client.read(10)
            assert caught.value.eof
            assert not caught.value.inside_record
            assert caught.value.detail.reason == "UNEXPECTED_EOF_WHILE_READING"
            assert isinstance(caught.value.__cause__, ssl.SSLEOFError)
        assert not link.client.ended

    @pytest.mark.parametrize("cut", [1, 4, 5, 6, -1])
    def test_a_fin_inside_a_record_is_never_an_end(self, contexts: Contexts, truncation: Truncation, cut: int) -> None:
        link = Link(contexts, truncation=truncation).shake_hands()
        link.client.feed(link.from_server(SECRET)[:cut])
        link.client.feed_eof()
        for _ in range(2):
            with pytest.raises(TlsFailure) as caught:
                link.client.read(10)
            assert caught.value.eof
            assert caught.value.inside_record

    def test_a_fin_in_the_handshake_is_a_failure_for_everyone(self, contexts: Contexts, truncation: Truncation) -> None:
        link = Link(contexts, truncation=truncation)
        assert link.client.handshake() is Step.NEED_SEND
        link.client.take()
        assert link.client.handshake() is Step.NEED_RECV
        link.client.feed_eof()
        with pytest.raises(TlsFailure) as caught:
            link.client.handshake()
        assert caught.value.eof

    def test_a_context_that_ignores_truncation_changes_nothing(self, contexts: Contexts) -> None:
        contexts.client.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        link = Link(contexts).shake_hands()
        link.client.feed_eof()
        with pytest.raises(TlsFailure):
            link.client.read(10)


class TestFailures:
    def test_the_first_failure_stays_with_its_reason(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.feed(damaged(link.from_server(SECRET)))
        details = []
        calls: Sequence[Callable[[], object]] = [lambda: link.client.read(10)] * 2 + [lambda: link.client.write(b"x")]
        for call in calls:
            with pytest.raises(TlsFailure) as caught:
                call()
            details.append(caught.value.detail)
        assert details[0].reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
        assert details == details[:1] * 3

    def test_what_was_readable_before_a_damaged_record_is_read(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.feed(link.from_server(SECRET) + damaged(link.from_server(SECRET)))
        assert link.client.read(5000) == SECRET
        with pytest.raises(TlsFailure):
            link.client.read(10)

    def test_each_time_a_fresh_exception_carries_it(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.feed_eof()
        caught = []
        for _ in range(2):
            with pytest.raises(TlsFailure) as info:
                link.client.read(10)
            caught.append(info.value)
        assert caught[0] is not caught[1]

    def test_a_damaged_record_is_told_to_the_peer_by_an_alert(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.feed(damaged(link.from_server(SECRET)))
        with pytest.raises(TlsFailure):
            link.client.read(10)
        link.server.feed(link.client.take())
        with pytest.raises(TlsFailure) as caught:
            link.server.read(10)
        detail = caught.value.detail
        assert (detail.alert, detail.alert_name, detail.alert_direction) == (20, "bad_record_mac", "received")

    def test_a_certificate_of_another_name_is_told_with_code_and_words(self, contexts: Contexts) -> None:
        link = Link(contexts, name="example.org")
        with pytest.raises(TlsFailure, match=r"example\.org") as caught:
            link.shake_hands()
        detail = caught.value.detail
        assert detail.reason == "CERTIFICATE_VERIFY_FAILED"
        assert detail.verify_code == 62
        link.server.feed(link.client.take())
        with pytest.raises(TlsFailure) as told:
            link.server.handshake()
        assert told.value.detail.alert_direction == "received"
        assert told.value.detail.alert == 42

    def test_an_answer_in_plaintext_is_told_as_such(self, contexts: Contexts) -> None:
        client = Link(contexts).client
        client.handshake()
        client.take()
        client.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(TlsFailure) as caught:
            client.handshake()
        assert caught.value.detail.reason == "WRONG_VERSION_NUMBER"
        assert caught.value.detail.alert_direction in {"sent", None}

    @pytest.mark.parametrize("number", sorted(ALERTS.keys() - {0, 121}))  # OpenSSL 3 does not know the last one
    def test_every_alert_of_the_peer_is_told_by_its_name_whatever_python_calls_it(self, number: int) -> None:
        client = Engine(ssl.create_default_context(), server_hostname="localhost")
        assert client.handshake() is Step.NEED_SEND
        client.take()
        client.feed(b"\x15\x03\x03\x00\x02\x02" + bytes([number]))
        with pytest.raises(TlsFailure) as told:
            client.handshake()
        detail = told.value.detail
        assert (detail.alert, detail.alert_name, detail.alert_direction) == (number, ALERTS[number], "received")
        stem = ALERTS[number].upper().replace("CANCELED", "CANCELLED")
        assert detail.reason is not None
        assert detail.reason.endswith(f"_{stem}")

    def test_a_reason_that_openssl_has_no_words_for_is_none(self) -> None:
        client = Engine(ssl.create_default_context(), server_hostname="localhost")
        assert client.handshake() is Step.NEED_SEND
        client.take()
        client.feed(b"\x15\x03\x03\x00\x02\x02\xfa")
        with pytest.raises(TlsFailure) as told:
            client.handshake()
        assert (told.value.detail.reason, told.value.detail.alert) == (None, None)

    def test_our_own_alert_is_told_where_it_is_not_encrypted(self) -> None:
        link = Link(Contexts.of(self_signed(), "TLSv1.2"), name="example.org")
        with pytest.raises(TlsFailure) as caught:
            link.shake_hands()
        detail = caught.value.detail
        assert (detail.error, detail.alert, detail.alert_name) == ("SSL_ERROR_SSL", 42, "bad_certificate")
        assert detail.alert_direction == "sent"

    def test_what_comes_after_a_failure_changes_nothing(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.feed(damaged(link.from_server(SECRET)) + link.from_server(SECRET))
        told: list[TlsFailure] = []
        for call in (link.client.read, link.client.write, link.client.read):
            with pytest.raises(TlsFailure) as caught:
                call(b"x") if call == link.client.write else call(10)  # type: ignore[arg-type]
            told.append(caught.value)
        assert {str(one) for one in told} == {"DECRYPTION_FAILED_OR_BAD_RECORD_MAC"}
        assert len({id(one.__cause__) for one in told}) == 1
        assert not any(one.eof or one.inside_record for one in told)

    def test_an_end_of_file_is_told_as_openssl_tells_it(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.unwrap()
        link.client.feed_eof()
        with pytest.raises(TlsFailure, match=r"^UNEXPECTED_EOF_WHILE_READING$") as caught:
            link.client.read(10)
        detail, cause = caught.value.detail, caught.value.__cause__
        assert (detail.error, detail.reason, detail.close_notify) == ("SSL_ERROR_SYSCALL", str(caught.value), "sent")
        assert getattr(cause, "reason", None) == detail.reason


class TestOutput:
    def test_the_alert_of_a_failure_is_pending_until_it_is_taken(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.feed(damaged(link.from_server(SECRET)))
        with pytest.raises(TlsFailure):
            link.client.read(10)
        pending = link.client.pending
        assert len(link.client.take()) == pending > 0
        assert (link.client.pending, link.client.take()) == (0, b"")

    def test_a_write_before_the_handshake_takes_nothing_and_shakes_hands(self, contexts: Contexts) -> None:
        client = Link(contexts).client
        assert client.write(b"x") is Step.NEED_SEND
        assert client.take()[0] == 0x16
        assert client.write(b"x") is Step.NEED_RECV

    def test_nothing_is_written_at_once(self, contexts: Contexts) -> None:
        client = Link(contexts).client
        assert client.write(b"") is Step.DONE
        assert client.pending == 0

    def test_both_close_notifies_are_seen_in_either_order(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.server.unwrap()
        link.client.feed(link.server.take())
        link.client.unwrap()  # without having read the peer's
        assert (link.client.close_notify, link.client.ended) == ("both", True)
        link.server.feed(link.client.take())
        assert link.server.read(10) == b""  # behind our own
        assert (link.server.close_notify, link.server.ended) == ("both", True)

    def test_each_side_of_a_close_notify_has_its_word(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        assert link.client.close_notify == "none"
        link.server.unwrap()
        link.client.feed(link.server.take())
        assert link.client.read(10) == b""
        assert (link.client.close_notify, link.server.close_notify) == ("received", "sent")

    def test_whatever_is_fed_is_counted(self, contexts: Contexts) -> None:
        client = Link(contexts).client
        counts = [client.receipts]
        client.feed(b"\x16")
        counts.append(client.receipts)
        client.feed_eof()
        counts.append(client.receipts)
        assert counts == sorted(set(counts))

    @pytest.mark.skipif(not can_rekey(), reason="cannot call OpenSSL on CPython's objects here")
    def test_a_write_after_plaintext_and_a_call_for_new_keys_loses_neither(self) -> None:
        link = Link(Contexts.of(self_signed(), "TLSv1.2")).shake_hands()
        before = link.from_server(SECRET[:600]) + link.from_server(SECRET[600:])
        renegotiate(link.server.object)
        link.client.feed(before + link.server.take())
        assert link.client.write(b"question") is Step.NEED_SEND
        assert [link.client.read(600), link.client.read(600)] == [SECRET[:600], SECRET[600:]]
        got = b""
        while not got:
            link.pass_on()
            if link.client.write(b"question") is Step.DONE:
                link.pass_on()
            read = link.server.read(100)
            got = read if isinstance(read, bytes) else b""
        assert got == b"question"

    @pytest.mark.skipif(not can_rekey(), reason="cannot call OpenSSL on CPython's objects here")
    def test_our_end_waits_until_new_keys_are_agreed_on(self) -> None:
        link = Link(Contexts.of(self_signed(), "TLSv1.2")).shake_hands()
        renegotiate(link.server.object)
        link.client.feed(link.server.take())
        assert link.client.read(10) is Step.NEED_SEND
        assert [link.client.unwrap(), link.client.unwrap()] == [Step.NEED_RECV, Step.NEED_RECV]
        assert link.client.close_notify == "none"
        for _ in range(4):
            link.pass_on()
            assert not isinstance(link.server.read(10), bytes)
            link.pass_on()
            assert not isinstance(link.client.read(10), bytes)
        assert link.client.unwrap() is Step.NEED_SEND
        link.pass_on()
        assert link.server.read(10) == b""
        assert (link.client.close_notify, link.server.ended) == ("sent", True)

    @pytest.mark.skipif(not can_rekey(), reason="cannot call OpenSSL on CPython's objects here")
    def test_new_keys_that_the_peer_breaks_off_are_waited_for_no_longer(self) -> None:
        link = Link(Contexts.of(self_signed(), "TLSv1.2")).shake_hands()
        renegotiate(link.server.object)
        link.server.unwrap()
        link.client.feed(link.server.take())
        assert link.client.read(10) == b""
        assert link.client.unwrap() is Step.NEED_SEND  # the ClientHello, for which it is too late
        link.client.take()
        assert link.client.unwrap() is Step.DONE
        assert link.client.close_notify == "received"
        for _ in range(2):
            with pytest.raises(TlsFailure, match="while new keys were agreed on") as caught:
                link.client.write(b"question")
            assert caught.value.eof
            detail = caught.value.detail
            assert (detail.error, detail.close_notify) == ("SSL_ERROR_ZERO_RETURN", "received")

    def test_what_is_discarded_never_leaves(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.write(SECRET)
        assert link.client.discard() > len(SECRET)
        assert link.client.pending == 0
        assert link.client.take() == b""

    def test_our_close_notify_is_put_out_once(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        assert link.client.unwrap() is Step.NEED_SEND
        assert link.client.take()
        assert link.client.unwrap() is Step.DONE
        assert link.client.close_notify == "sent"

    def test_several_records_that_are_here_come_at_once_up_to_what_was_asked_for(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.feed(b"".join(link.from_server(bytes([n]) * 100) for n in range(3)))
        assert link.client.read(250) == b"\0" * 100 + b"\1" * 100 + b"\2" * 50
        assert link.client.read(1000) == b"\2" * 50
        assert link.client.read(1000) is Step.NEED_RECV
        link.client.feed(link.from_server(b"one ") + link.from_server(b"two"))
        assert link.client.read(1000) == b"one two"

    def test_input_is_certain_to_be_here_with_a_whole_record_or_the_rest_of_one(self, contexts: Contexts) -> None:
        link = Link(contexts).shake_hands()
        link.client.read(1)  # tickets
        held = [link.client.holds_input]
        link.client.feed(link.from_server(SECRET))
        for size in (len(SECRET) - 1, 10):
            link.client.read(size)
            held.append(link.client.holds_input)
        link.client.feed(link.from_server(bytes(20_000)))
        held.append(link.client.holds_input)
        assert held == [False, True, False, True]


@pytest.mark.parametrize(
    ("ciphertext", "number"),
    [
        ("15 0303 0002 02 28", 40),
        ("15 0301 0002 02 28", 40),
        ("16 0303 0001 00 15 0303 0002 01 00", 0),
        ("16 0303 0002 02 28", None),
        ("15 0403 0002 02 28", None),
        ("15 0303 0102 02 28", None),
        ("0303 0002 02 28", None),
        ("", None),
    ],
)
def test_our_alert_is_read_from_the_end_of_what_we_send(ciphertext: str, number: int | None) -> None:
    assert _sent_alert(bytes.fromhex(ciphertext)) == number


def damaged(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


@given(st.lists(st.integers(0, 300), max_size=20), st.data())
def test_an_end_is_inside_a_record_exactly_where_it_is(sizes: list[int], data: st.DataObject) -> None:
    stream, ends = b"", {0}
    for size in sizes:
        stream += b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)
        ends.add(len(stream))
    tracker = RecordTracker()
    position = 0
    while position < len(stream):
        step = data.draw(st.integers(1, len(stream) - position))
        tracker.feed(stream[position : position + step])
        position += step
        assert tracker.inside == (position not in ends)
