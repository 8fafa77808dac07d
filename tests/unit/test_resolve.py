"""Names to addresses: literals, the resolver's answers and errors, interleaving, what is remembered of failures."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdwire.net import resolve as module
from holdwire.net.resolve import Address, AddressMemory, NameNotResolved, interleave, literal, resolve
from holdwire.policy.diagnosis import Facts
from holdwire.policy.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

V4, V6 = socket.AF_INET, socket.AF_INET6
FACTS = Facts(host="service.test", port=80, at=0.0)


def answering(*hosts: str) -> Callable[..., Any]:
    """A resolver that knows these addresses."""

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        del host
        assert options == {"type": socket.SOCK_STREAM}
        return [
            (V6, socket.SOCK_STREAM, 6, "", (one, port, 0, 0))
            if ":" in one
            else (V4, socket.SOCK_STREAM, 6, "", (one, port))
            for one in hosts
        ]

    return getaddrinfo


def failing(error: Exception) -> Callable[..., Any]:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise error

    return getaddrinfo


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", V4), ("::1", V6), ("fe80::1%lo", V6), ("::ffff:192.0.2.1", V6)]
)
def test_an_address_is_taken_as_it_is_written(host: str, family: int) -> None:
    assert literal(host, 80) == Address(family, host, 80)


@pytest.mark.parametrize("host", ["localhost", "1.2.3", "127.0.0.1.", "", "a\0b", "münchen.test", "[::1]", "0x7f.1"])
def test_what_is_no_address_is_a_name(host: str) -> None:
    assert literal(host, 80) is None


def test_the_scope_of_a_link_local_address_becomes_the_number_of_its_interface() -> None:
    assert Address(V6, "fe80::1%lo", 80).sockaddr == ("fe80::1", 80, 0, socket.if_nametoindex("lo"))
    assert Address(V6, "fe80::1%7", 80).sockaddr == ("fe80::1", 80, 0, 7)
    assert Address(V6, "fe80::1%absent0", 80).sockaddr == ("fe80::1", 80, 0, 0)
    assert Address(V6, "::1", 80).sockaddr == ("::1", 80)


async def test_each_address_is_tried_once_however_often_the_resolver_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("192.0.2.1", "2001:db8::1", "192.0.2.1"))
    found = await resolve("service.test", 80, facts=FACTS)
    assert [address.host for address in found] == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize(
    ("error", "name", "category"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "EAI_NONAME", "dns"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "EAI_AGAIN", "dns"),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), "EAI_FAIL", "dns"),
        (socket.gaierror(-4711, "unheard of"), "EAI_FAIL", "dns"),
        (UnicodeError("label too long"), "UnicodeError", "configuration"),
        (ValueError("embedded null character"), "UnicodeError", "configuration"),
        (OSError(errno.EMFILE, "Too many open files"), "EMFILE", "local_resource"),
    ],
)
async def test_what_the_resolver_says_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, error: Exception, name: str, category: str
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", failing(error))
    with pytest.raises(NameNotResolved) as caught:
        await resolve("absent.test", 80, facts=FACTS)
    failure = caught.value.failure
    assert (failure.phase, failure.errno_name, failure.category) == ("dns", name, category)


async def test_a_resolver_that_answers_with_nothing_found_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering())
    with pytest.raises(NameNotResolved, match="EAI_NODATA"):
        await resolve("absent.test", 80, facts=FACTS)


async def test_a_name_that_has_resolved_before_is_not_believed_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", type(module._known)())
    monkeypatch.setattr(anyio, "getaddrinfo", failing(socket.gaierror(socket.EAI_NONAME, "not known")))
    with pytest.raises(NameNotResolved) as first:
        await resolve("service.test", 80, facts=FACTS)
    monkeypatch.setattr(anyio, "getaddrinfo", answering("192.0.2.1"))
    await resolve("service.test", 80, facts=FACTS)
    monkeypatch.setattr(anyio, "getaddrinfo", failing(socket.gaierror(socket.EAI_NONAME, "not known")))
    with pytest.raises(NameNotResolved) as second:
        await resolve("service.test", 80, facts=FACTS)
    first_outcome, second_outcome = (Outcome.of(one) for one in (first.value.failure, second.value.failure))
    assert first_outcome.name_not_found
    assert not second_outcome.name_not_found
    assert second.value.failure.detail == "not known; it has resolved before in this process"


async def test_only_so_many_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", type(module._known)())
    monkeypatch.setattr(module, "_KNOWN_LIMIT", 2)
    monkeypatch.setattr(anyio, "getaddrinfo", answering("192.0.2.1"))
    for name in ("a.test", "b.test", "a.test", "c.test"):
        await resolve(name, 80, facts=FACTS)
    assert sorted(module._known) == ["a.test", "c.test"], "the one that was asked for longest ago is forgotten"


def addresses(*hosts: str) -> list[Address]:
    return [Address(V6 if ":" in host else V4, host, 80) for host in hosts]


def test_the_families_take_turns_beginning_with_the_resolvers_first_choice() -> None:
    found = interleave(addresses("::1", "::2", "::3", "10.0.0.1", "10.0.0.2"))
    assert [address.host for address in found] == ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]
    found = interleave(addresses("10.0.0.1", "10.0.0.2", "::1"))
    assert [address.host for address in found] == ["10.0.0.1", "::1", "10.0.0.2"]


@given(st.lists(st.sampled_from(["::1", "::2", "10.0.0.1", "10.0.0.2", "10.0.0.3"]), unique=True))
def test_interleaving_loses_no_address_and_keeps_the_order_within_a_family(hosts: list[str]) -> None:
    before = addresses(*hosts)
    after = interleave(before)
    assert sorted(after, key=str) == sorted(before, key=str)
    for family in (V4, V6):
        assert [one for one in after if one.family == family] == [one for one in before if one.family == family]


def order(memory: AddressMemory, now: float) -> list[str]:
    return [address.host for address in memory.order(addresses("10.0.0.1", "10.0.0.2", "10.0.0.3"), now)]


def test_addresses_that_failed_of_late_come_last_and_the_oldest_failure_first() -> None:
    memory = AddressMemory(span=60)
    memory.failed("10.0.0.1", 100.0)
    assert order(memory, 100.0) == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
    memory.failed("10.0.0.2", 130.0)
    assert order(memory, 130.0) == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
    assert order(memory, 160.0) == ["10.0.0.1", "10.0.0.3", "10.0.0.2"], "after a minute a failure is forgotten"
    memory.worked("10.0.0.2")
    assert order(memory, 160.0) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_only_so_many_failed_addresses_are_remembered() -> None:
    memory = AddressMemory(limit=2)
    for at, host in enumerate(("10.0.0.1", "10.0.0.2", "10.0.0.3")):
        memory.failed(host, 100.0 + at)
    assert order(memory, 110.0) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    memory.failed("10.0.0.1", 110.0)
    assert order(memory, 110.0) == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
