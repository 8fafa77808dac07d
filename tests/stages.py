"""Causes of trouble, each staged on this machine: what ``holdwire doctor`` must rank first, and the way to it.

A stage is a context manager that yields the command's arguments. Those of ``LAB`` need root and live in network
namespaces; the calling thread is then on the client's host. Where the first argument is ``@HOST`` the command has to be
a process of its own on that host, which has files of its own in /etc.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme

from holdwire.testing import Answer, ChaosServer
from tests.netns import SERVER, SERVER6, Lab, lab, run
from tests.nginx import nginx
from tests.peers import haproxy
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

__all__ = ["HEALTHY", "LAB", "STAGES", "Stage", "answering", "place", "tls_server"]

HEALTHY: Final = "healthy"
DEAD: Final = "10.77.2.9"
_QUICK: Final = ("--timeout", "2.5")


@dataclass(frozen=True, slots=True)
class Stage:
    """``cause`` is what is staged."""

    cause: str
    arguments: Callable[[Path], AbstractContextManager[Sequence[str]]]


STAGES: dict[str, Stage] = {}
"""On loopback."""
LAB: dict[str, Stage] = {}
"""On a path of three hosts."""


def stage(
    cause: str, among: dict[str, Stage] = STAGES
) -> Callable[[Callable[[Path], Generator[Sequence[str]]]], object]:
    """Register a stage under the name of its function."""

    def register(staging: Callable[[Path], Generator[Sequence[str]]]) -> object:
        among[staging.__name__] = Stage(cause, contextlib.contextmanager(staging))
        return staging

    return register


def tls_server(ca: trustme.CA, *names: str, days: tuple[int, int] = (-1, 90)) -> ssl.SSLContext:
    """A server's context; its certificate is valid from so many days from now to so many."""
    now = datetime.datetime.now(datetime.UTC)
    leaf = ca.issue_cert(
        *(names or ("localhost", "127.0.0.1")),
        not_before=now + datetime.timedelta(days=days[0]),
        not_after=now + datetime.timedelta(days=days[1]),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def place(server: ChaosServer, host: str = "localhost") -> str:
    """The server as a person writes it."""
    return f"{host}:{server.url.rpartition(':')[2]}"


@contextlib.contextmanager
def program(source: str, *arguments: str) -> Generator[tuple[int, subprocess.Popen[str]]]:
    """A Python program that prints its port, and its process."""
    prelude = "import contextlib, os, resource, socket, sys, time\n"
    command = [sys.executable, "-c", prelude + textwrap.dedent(source), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


@contextlib.contextmanager
def answering(data: bytes, *, after: bool = False) -> Generator[int]:
    """A process that says ``data`` on each connection, ``after`` something has come, and closes."""
    source = """
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        while True:
            with listener.accept()[0] as peer, contextlib.suppress(OSError):
                if sys.argv[2] == "True":
                    peer.recv(4096)
                peer.sendall(bytes.fromhex(sys.argv[1]))
                peer.recv(4096)
    """
    with program(source, data.hex(), str(after)) as (port, _):
        yield port


# --- healthy servers ---


@contextlib.contextmanager
def secure(folder: Path, *names: str, days: tuple[int, int] = (-1, 90)) -> Generator[tuple[ChaosServer, list[str]]]:
    """A server with TLS, and the arguments with which it is looked at."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    with ChaosServer(tls=tls_server(ca, *names, days=days)) as server:
        yield server, ["--tls", "--ca", str(folder / "ca.pem"), place(server)]


@stage(HEALTHY)
def a_server_with_tls(folder: Path) -> Generator[Sequence[str]]:
    with secure(folder) as (_, arguments):
        yield arguments


@stage(HEALTHY)
def a_plain_server_on_a_port_that_tells_nothing(_: Path) -> Generator[Sequence[str]]:
    with ChaosServer() as server:
        yield "--strict", place(server, "127.0.0.1")


@stage(HEALTHY)
def a_server_that_speaks_no_http(_: Path) -> Generator[Sequence[str]]:
    with answering(b"220 mail.example ESMTP\r\n") as port:
        yield *_QUICK, "--plain", f"127.0.0.1:{port}"


@stage(HEALTHY)
def nginx_with_tls(folder: Path) -> Generator[Sequence[str]]:
    with nginx(folder) as server:
        (folder / "ca.pem").write_bytes(server.identity.authority)
        yield "--ca", str(folder / "ca.pem"), f"localhost:{server.port}"


@stage(HEALTHY)
def haproxy_with_tls(folder: Path) -> Generator[Sequence[str]]:
    with nginx(folder) as behind, haproxy(folder, behind.port, behind.identity) as port:
        (folder / "ca.pem").write_bytes(behind.identity.authority)
        yield "--ca", str(folder / "ca.pem"), f"localhost:{port}"


# --- names and connections ---


@stage("name_not_found")
def a_name_that_does_not_exist(_: Path) -> Generator[Sequence[str]]:
    yield *_QUICK, "no-such-host.invalid"


@stage("refused")
def a_port_without_a_listener(_: Path) -> Generator[Sequence[str]]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield *_QUICK, f"127.0.0.1:{bound.getsockname()[1]}"


@stage("backlog_full")
def a_listener_whose_backlog_is_full(_: Path) -> Generator[Sequence[str]]:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _attempt in range(3):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield *_QUICK, "--plain", f"127.0.0.1:{listener.getsockname()[1]}"


@stage("proxy_fails")
def a_proxy_that_is_not_there(_: Path) -> Generator[Sequence[str]]:
    with ChaosServer() as server:
        yield *_QUICK, "--proxy", f"http://127.0.0.1:{free_port()}", server.url


# --- TLS ---


def handshake(script: str, folder: Path) -> Generator[Sequence[str]]:
    with secure(folder) as (server, arguments):
        server.sprinkle(script, share=1.0)
        yield *_QUICK, *arguments


@stage("reset_in_handshake")
def a_handshake_that_is_reset(folder: Path) -> Generator[Sequence[str]]:
    yield from handshake("handshake rst", folder)


@stage("closed_in_handshake")
def a_handshake_that_is_closed(folder: Path) -> Generator[Sequence[str]]:
    yield from handshake("handshake fin_without_close_notify", folder)


@stage("server_not_answering")
def a_handshake_that_nobody_answers(folder: Path) -> Generator[Sequence[str]]:
    yield from handshake("handshake stall", folder)


@stage("no_close_notify")
def an_end_without_close_notify(folder: Path) -> Generator[Sequence[str]]:
    yield from handshake("response:end fin_without_close_notify", folder)


def certificate(folder: Path, *names: str, days: tuple[int, int]) -> Generator[Sequence[str]]:
    with secure(folder, *names, days=days) as (_, arguments):
        yield *_QUICK, *arguments


@stage("certificate_expired")
def a_certificate_that_has_expired(folder: Path) -> Generator[Sequence[str]]:
    yield from certificate(folder, days=(-90, -1))


@stage("certificate_not_yet_valid")
def a_certificate_of_the_future(folder: Path) -> Generator[Sequence[str]]:
    yield from certificate(folder, days=(5, 90))


@stage("certificate_expires_soon")
def a_certificate_in_its_last_days(folder: Path) -> Generator[Sequence[str]]:
    yield from certificate(folder, days=(-1, 5))


@stage("certificate_name_mismatch")
def a_certificate_for_another_name(folder: Path) -> Generator[Sequence[str]]:
    yield from certificate(folder, "other.example", days=(-1, 90))


@stage("certificate_untrusted")
def a_certificate_that_nobody_here_trusts(_: Path) -> Generator[Sequence[str]]:
    with ChaosServer(tls=tls_server(trustme.CA())) as server:
        yield *_QUICK, "--tls", place(server)


@stage("not_tls")
def a_plain_server_on_the_tls_port(_: Path) -> Generator[Sequence[str]]:
    with answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", after=True) as port:
        yield *_QUICK, "--tls", f"127.0.0.1:{port}"


def picky(folder: Path, change: Callable[[ssl.SSLContext, trustme.CA], None]) -> Generator[Sequence[str]]:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = tls_server(ca)
    change(context, ca)
    with ChaosServer(tls=context) as server:
        yield *_QUICK, "--tls", "--ca", str(folder / "ca.pem"), place(server)


@stage("tls_version_mismatch")
def a_server_without_a_cipher_of_ours(folder: Path) -> Generator[Sequence[str]]:
    def old(context: ssl.SSLContext, _: trustme.CA) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA")  # needs a key of another kind

    yield from picky(folder, old)


@stage("server_name_filtered")
def a_name_that_is_filtered(folder: Path) -> Generator[Sequence[str]]:
    def refuse(context: ssl.SSLContext, _: trustme.CA) -> None:
        context.sni_callback = lambda _, name, __: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name else None

    yield from picky(folder, refuse)


@stage("tls_alert")
def a_server_that_ends_tls_with_an_alert(folder: Path) -> Generator[Sequence[str]]:
    def fail(context: ssl.SSLContext, _: trustme.CA) -> None:
        context.sni_callback = lambda _, __, ___: ssl.ALERT_DESCRIPTION_INTERNAL_ERROR

    yield from picky(folder, fail)


@stage("client_certificate_required")
def a_server_that_wants_a_client_certificate(folder: Path) -> Generator[Sequence[str]]:
    def demand(context: ssl.SSLContext, ca: trustme.CA) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(context)

    yield from picky(folder, demand)


# --- answers ---


def faulty(script: str, *more: str, quick: Sequence[str] = _QUICK) -> Generator[Sequence[str]]:
    with ChaosServer() as server:
        server.sprinkle(script, share=1.0)
        yield *quick, *more, server.url


@stage("reset_by_server")
def a_reset_instead_of_an_answer(_: Path) -> Generator[Sequence[str]]:
    yield from faulty("response:0 rst")


@stage("closed_without_answer")
def an_end_instead_of_an_answer(_: Path) -> Generator[Sequence[str]]:
    yield from faulty("response:0 fin")


@stage("server_not_answering")
def a_request_that_nobody_answers(_: Path) -> Generator[Sequence[str]]:
    yield from faulty("response:0 stall")


@stage("slow")
def an_answer_that_takes_its_time(_: Path) -> Generator[Sequence[str]]:
    yield from faulty("response:0 stall=3.2", quick=())


@stage("idle_limit")
def a_server_that_closes_idle_connections_at_once(_: Path) -> Generator[Sequence[str]]:
    yield from faulty("idle:0.3 fin")


@stage("answer_cut")
def an_answer_that_ends_before_it_is_whole(_: Path) -> Generator[Sequence[str]]:
    with ChaosServer() as server:
        server.answer("/", Answer(body=b"x" * 1000))
        server.sprinkle("response:500 fin", share=1.0)
        yield *_QUICK, server.url


@stage("request_cut")
def a_path_whose_requests_alone_are_cut(_: Path) -> Generator[Sequence[str]]:
    with ChaosServer() as server:
        server.script(*["response:0 rst"] * 9, path="/broken")
        yield *_QUICK, "--path", "/broken", server.url


def saying(answer: Answer) -> Generator[Sequence[str]]:
    with ChaosServer() as server:
        server.answer("/", answer)
        yield *_QUICK, server.url


@stage("gateway_error")
def a_gateway_without_a_backend(_: Path) -> Generator[Sequence[str]]:
    yield from saying(Answer(status=502))


@stage("server_error")
def a_server_that_answers_with_an_error(_: Path) -> Generator[Sequence[str]]:
    yield from saying(Answer(status=500))


@stage("clock_skew")
def a_server_with_another_clock(_: Path) -> Generator[Sequence[str]]:
    yield from saying(Answer(headers=(("date", "Sat, 01 Jan 2000 00:00:00 GMT"),)))


# --- the server's process ---


@stage("server_descriptors_short")
def a_server_out_of_descriptors(_: Path) -> Generator[Sequence[str]]:
    source = """
        listener = socket.create_server(("127.0.0.1", 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno() + 1, listener.fileno() + 1))
        print(listener.getsockname()[1], flush=True)
        while True:
            try:
                listener.accept()
            except OSError:
                time.sleep(0.05)
    """
    with program(source) as (port, _process):
        yield *_QUICK, "--tls", f"127.0.0.1:{port}"


@stage("server_cpu_short")
def a_server_that_computes_without_end(_: Path) -> Generator[Sequence[str]]:
    source = """
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        peer = listener.accept()
        while True:
            pass
    """
    with program(source) as (port, _process):
        yield *_QUICK, "--plain", f"127.0.0.1:{port}"


@stage("accept_queue")
def a_server_whose_only_worker_waits(_: Path) -> Generator[Sequence[str]]:
    source = """
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        print(listener.getsockname()[1], flush=True)
        peer = listener.accept()
        time.sleep(60)
    """
    with program(source) as (port, _process):
        yield *_QUICK, "--plain", f"127.0.0.1:{port}"


@stage("server_crashed")
def a_server_that_aborts_when_it_is_asked(_: Path) -> Generator[Sequence[str]]:
    source = """
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        while True:
            with listener.accept()[0] as peer, contextlib.suppress(OSError):
                if peer.recv(4096):
                    os.abort()
    """
    with program(source) as (port, _process):
        yield *_QUICK, "--plain", f"127.0.0.1:{port}"


@stage("server_memory_short")
def a_server_that_outgrows_its_memory_limit(folder: Path) -> Generator[Sequence[str]]:
    source = """
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        hoard = []
        while True:
            with listener.accept()[0] as peer, contextlib.suppress(OSError):
                while peer.recv(4096):
                    hoard.append(b"x" * (256 << 20))
    """
    group = memory_group(64 << 20)
    try:
        with program(source) as (port, process):
            (group / "cgroup.procs").write_text(str(process.pid))
            yield *_QUICK, "--plain", f"127.0.0.1:{port}"
            process.kill()
            process.wait()
    finally:
        group.rmdir()


def memory_group(limit: int) -> Path:
    """A control group of our own that may use so many bytes."""
    for root, file in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        group = Path(root, f"holdwire-test-{os.getpid()}")
        try:
            group.mkdir()
            if (group / file).exists():  # not in a plain folder
                (group / file).write_text(str(limit))
                return group
        except OSError:
            pass
        with contextlib.suppress(OSError):
            group.rmdir()
    pytest.skip("no control group with a memory limit can be made here: no server was killed for lack of memory")


# --- the path ---


@contextlib.contextmanager
def across(**options: Any) -> Generator[tuple[Lab, ChaosServer]]:
    """A server behind a router; the calling thread is the client."""
    with lab() as net, contextlib.ExitStack() as stack:
        with net.on(net.server):
            server = stack.enter_context(ChaosServer(host=SERVER, **options))
        stack.enter_context(net.on(net.client))
        yield net, server


def behind(*rules: str, quick: Sequence[str] = _QUICK) -> Generator[Sequence[str]]:
    """A server behind a router with these rules."""
    with across() as (net, server):
        net.nft(*(f"add rule inet f fw {rule}" for rule in rules))
        yield *quick, server.url


@stage(HEALTHY, LAB)
def a_path_without_faults(_: Path) -> Generator[Sequence[str]]:
    yield from behind(quick=())


@stage("syn_dropped", LAB)
def a_firewall_that_drops(_: Path) -> Generator[Sequence[str]]:
    yield from behind("drop")


@stage("syn_dropped", LAB)
def a_firewall_that_drops_ipv6(_: Path) -> Generator[Sequence[str]]:
    with lab() as net:
        net.with_ipv6()
        net.nft("add rule inet f fw tcp dport 443 drop")
        with net.on(net.client):
            yield *_QUICK, f"[{SERVER6}]:443"


@stage("unreachable", LAB)
def a_firewall_that_rejects(_: Path) -> Generator[Sequence[str]]:
    yield from behind("ip protocol tcp reject with icmp type host-unreachable")


@stage("middlebox_reset", LAB)
def a_firewall_that_cuts_by_content(folder: Path) -> Generator[Sequence[str]]:
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed (Debian: apt-get install tcpdump): no firewall was caught in the act")
    file = str(folder / "run.pcap")
    with across() as (net, server):
        run("ip", "netns", "exec", net.server, "sysctl", "-qw", "net.ipv4.ip_default_ttl=128")  # as if far away
        net.nft("add rule inet f fw tcp flags & psh == psh reject with tcp reset")
        command = ["tcpdump", "-i", "c0", "-Z", "root", "-U", "--immediate-mode", "-s0", "-w", file]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tcpdump:
            try:
                assert tcpdump.stderr is not None
                next(line for line in tcpdump.stderr if "listening on" in line)
                yield *_QUICK, "--pcap", file, server.url
            finally:
                tcpdump.terminate()


@stage("refused", LAB)
def a_firewall_that_resets(_: Path) -> Generator[Sequence[str]]:
    yield from behind("meta l4proto tcp reject with tcp reset")


@stage("mtu_black_hole", LAB)
def a_tunnel_that_swallows_large_packets(_: Path) -> Generator[Sequence[str]]:
    yield from behind("ip length > 1000 drop")


@stage("packet_loss", LAB)
def a_path_that_loses_one_packet_in_four(_: Path) -> Generator[Sequence[str]]:
    yield from behind("numgen inc mod 4 == 0 drop", quick=())


def own_rules(*rules: str) -> Generator[Sequence[str]]:
    """A client whose own host has these rules."""
    with across() as (_net, server):
        own(*rules)
        yield *_QUICK, server.url


def own(*rules: str) -> None:
    """Give these rules to the host that the calling thread is on."""
    run("nft", "add table inet own")
    run("nft", "add chain inet own out { type filter hook output priority 0 ; }")
    for rule in rules:
        run("nft", f"add rule inet own out {rule}")


@stage("blocked_locally", LAB)
def a_local_firewall_that_drops(_: Path) -> Generator[Sequence[str]]:
    yield from own_rules("meta l4proto tcp drop")


@stage("blocked_locally", LAB)
def a_local_firewall_that_rejects(_: Path) -> Generator[Sequence[str]]:
    yield from own_rules("meta l4proto tcp reject with icmpx type admin-prohibited")


@stage("blocked_locally", LAB)
def a_local_route_that_is_prohibited(_: Path) -> Generator[Sequence[str]]:
    with across() as (net, server):
        run("ip", "-n", net.client, "route", "add", "prohibit", SERVER)
        yield *_QUICK, server.url


@stage("ports_short", LAB)
def a_client_without_ports(_: Path) -> Generator[Sequence[str]]:
    with across() as (_net, server), contextlib.ExitStack() as stack:
        run("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40001")
        port = int(server.url.rpartition(":")[2])
        for _attempt in range(2):
            stack.enter_context(socket.create_connection((SERVER, port)))
        yield *_QUICK, server.url


def named(net: Lab, **files: str) -> Generator[str]:
    """Give the client its own files in /etc; where to run the command."""
    folder = Path("/etc/netns", net.client)
    folder.mkdir(parents=True)
    try:
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)
        yield f"@{net.client}"
    finally:
        shutil.rmtree(folder)


@stage("some_addresses_fail", LAB)
def a_name_with_a_dead_address(_: Path) -> Generator[Sequence[str]]:
    with across() as (net, server), contextlib.contextmanager(named)(net, hosts=f"{SERVER} two\n{DEAD} two\n") as there:
        net.nft(f"add rule inet f fw ip daddr {DEAD} drop")
        yield there, *_QUICK, f"http://{place(server, 'two')}"


@stage("name_resolution_failed", LAB)
def a_resolver_that_is_silent(_: Path) -> Generator[Sequence[str]]:
    resolver = f"nameserver {DEAD}\noptions timeout:1 attempts:1\n"
    with across() as (net, _server), contextlib.contextmanager(named)(net, resolv_conf=resolver) as there:
        net.nft("add rule inet f fw drop")
        yield there, *_QUICK, "holdwire.example"


@stage("idle_reset", LAB)
def a_firewall_that_forgets(_: Path) -> Generator[Sequence[str]]:
    with across() as (net, server):
        net.forget_after(2, answer="drop")
        yield "--idle", "3", server.url


@stage(HEALTHY, LAB)
def a_firewall_that_forgets_and_a_heartbeat_that_holds(_: Path) -> Generator[Sequence[str]]:
    with across() as (net, server):
        net.forget_after(2, answer="drop")
        yield "--idle", "3", "--heartbeat", "1", server.url


@stage("idle_reset", LAB)
def a_client_whose_own_host_forgets(_: Path) -> Generator[Sequence[str]]:
    """Its keepalive of 60 s comes too late."""
    with across() as (_net, server):
        own("ct state established accept")
        run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_established=40")
        yield *_QUICK, server.url
