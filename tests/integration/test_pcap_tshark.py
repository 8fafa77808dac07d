"""Real captures: the counts are tshark's, in namespaces of our own (client, router, server).

Needs root, network namespaces, tcpdump and tshark; skipped, with the reason, where one is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from holdwire.doctor.pcap import CloseNotify, EventKind, Side, Who, analyse, conclude
from holdwire.doctor.pcap.reader import read_packets
from holdwire.policy.phase import Phase
from tests.pcap_writer import Captured, pcap

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from holdwire.doctor.pcap import Capture, Connection

CLIENT, SERVER = "10.211.1.2", "10.211.2.2"
CLIENT6, SERVER6 = "fd00:211:1::2", "fd00:211:2::2"
PORT = 4433
_MARK = b"the capture ends here"
_TOOLS = ("ip", "tcpdump", "tshark", "ethtool")

missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,  # tshark is the same whatever runs the tests; the reader's unit tests run on every interpreter
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and captures"),
]


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Lab:
    """Client, router and server, each in a network namespace; threads enter them."""

    def __init__(self) -> None:
        prefix = f"hwp{os.getpid()}"
        self.client, self.router, self.server = (f"{prefix}{end}" for end in "crs")
        self._libc = ctypes.CDLL(None, use_errno=True)

    def build(self) -> None:
        for name in (self.client, self.router, self.server):
            run("ip", "netns", "add", name)
            self.ip(name, "link", "set", "lo", "up")
        for name, wire, net in ((self.client, "wc", 1), (self.server, "ws", 2)):
            run(
                *("ip", "link", "add", wire, "netns", name, "address", f"02:00:00:00:00:0{net}"),
                *("type", "veth", "peer", "name", wire, "netns", self.router),
            )
            for end, host in ((name, 2), (self.router, 1)):
                self.ip(end, "addr", "add", f"10.211.{net}.{host}/24", "dev", wire)
                self.ip(end, "addr", "add", f"fd00:211:{net}::{host}/64", "dev", wire, "nodad")
                self.ip(end, "link", "set", wire, "up")
                run("ip", "netns", "exec", end, "ethtool", "-K", wire, "tso", "off", "gso", "off", "gro", "off")
            self.ip(name, "route", "add", "default", "via", f"10.211.{net}.1")
            self.ip(name, "-6", "route", "add", "default", "via", f"fd00:211:{net}::1")
        setting = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
        run("ip", "netns", "exec", self.router, "sh", "-c", setting)

    def ip(self, name: str, *command: str) -> None:
        run("ip", "-n", name, *command)

    def nft(self, rules: str) -> None:
        run("ip", "netns", "exec", self.router, "nft", rules)

    def destroy(self) -> None:
        for name in (self.client, self.router, self.server):
            run("ip", "netns", "del", name, check=False)

    def start(self, name: str, task: Callable[[], None]) -> Task:
        """Run ``task`` in a thread inside a namespace."""

        def enter() -> None:
            with Path("/run/netns", name).open("rb") as file:
                if self._libc.setns(file.fileno(), 0x40000000):
                    raise OSError(ctypes.get_errno(), "setns")
            task()

        return Task(enter)

    @contextlib.contextmanager
    def capture(self, name: str, path: Path, *options: str) -> Generator[None]:
        """Capture everything in a namespace; at the end wait until all of it is in the file."""
        wire = "wc" if name == self.client else "ws"
        interface = () if "-i" in options else ("-i", wire)
        command = ("ip", "netns", "exec", name, "tcpdump", *interface, *options, "-U", "--immediate-mode", "-s0")
        tcpdump = subprocess.Popen((*command, "-Z", "root", "-w", str(path)), stderr=subprocess.PIPE, text=True)
        try:
            assert tcpdump.stderr is not None
            for line in tcpdump.stderr:
                if "listening on" in line:
                    break
            yield
            there = CLIENT if name == self.server else SERVER

            def mark() -> None:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.sendto(_MARK, (there, 9))

            deadline = time.monotonic() + 40
            marked = -math.inf
            while _MARK not in path.read_bytes():
                assert time.monotonic() < deadline, "tcpdump did not write the last packet"
                if time.monotonic() - marked > 1:  # a capture can miss it
                    self.start(name, mark).result()
                    marked = time.monotonic()
                time.sleep(0.02)
        finally:
            tcpdump.send_signal(signal.SIGINT)
            tcpdump.communicate(timeout=30)


class Task:
    """A thread whose exception is not lost."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error

    def result(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), "a peer hangs"
        if self._error is not None:
            raise self._error


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab()
    try:
        try:
            lab.build()
        except RuntimeError as error:
            pytest.skip(f"no network laboratory: {error}")
        yield lab
    finally:
        lab.destroy()


@dataclass
class Tls:
    client: ssl.SSLContext
    server: ssl.SSLContext
    keys: Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("example.test").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    client = ssl.create_default_context()
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.touch()
    client.keylog_filename = str(keys)
    return Tls(client, server, keys)


# -- the oracle ------------------------------------------------------------------------------------------------------

_ANALYSIS = [
    "retransmission",
    "out_of_order",
    "duplicate_ack",
    "lost_segment",
    "ack_lost_segment",
    "zero_window",
    "zero_window_probe",
    "keep_alive",
]
_FIELDS = [
    "tcp.srcport",
    *(f"tcp.analysis.{name}" for name in _ANALYSIS),
    "tcp.flags.reset",
    "tcp.flags.fin",
    "tcp.options.mss_val",
    "tls.alert_message.desc",
    "icmp.type",
    "icmp.code",
    "icmp.mtu",
]


@dataclass
class Oracle:
    counts: dict[str, Counter[str]]
    alerts: dict[str, list[str]]
    mss: dict[str, set[str]]
    icmp: Counter[tuple[str, str, str]]


def tshark(path: Path, tls: Tls) -> Oracle:
    command = ["tshark", "-r", str(path), "-d", f"tcp.port=={PORT},tls", "-o", f"tls.keylog_file:{tls.keys}"]
    command += ["-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]
    for field in _FIELDS:
        command += ["-e", field]
    oracle = Oracle({}, {}, {}, Counter())
    for side in ("client", "server"):
        oracle.counts[side], oracle.alerts[side], oracle.mss[side] = Counter(), [], set()
    for line in run(*command).splitlines():
        row = dict(zip(_FIELDS, line.split("|"), strict=True))
        if row["icmp.type"] == "3" and row["icmp.code"] == "3":
            continue  # the answer to the mark
        if row["icmp.type"]:
            oracle.icmp[row["icmp.type"], row["icmp.code"], row["icmp.mtu"]] += 1
            continue
        if not row["tcp.srcport"]:
            continue
        side = "server" if row["tcp.srcport"] == str(PORT) else "client"
        for name in _ANALYSIS:
            oracle.counts[side][name] += bool(row[f"tcp.analysis.{name}"])
        oracle.counts[side]["reset"] += row["tcp.flags.reset"] in {"1", "True"}
        oracle.counts[side]["fin"] += row["tcp.flags.fin"] in {"1", "True"}
        oracle.alerts[side] += filter(None, row["tls.alert_message.desc"].split(","))
        oracle.mss[side] |= {row["tcp.options.mss_val"]} - {""}
    return oracle


def compare(capture: Capture, oracle: Oracle) -> Connection:
    (connection,) = capture.connections
    for who in (Who.CLIENT, Who.SERVER):
        side: Side = connection.side(who)
        theirs = oracle.counts[who]
        ours = {
            "repeated": side.retransmissions + side.out_of_order,
            "duplicate_ack": side.duplicate_acks,
            "lost_segment": side.gaps,
            "zero_window": side.zero_windows,
            "probes": side.keepalive_probes + side.window_probes,
            "reset": side.rst_at is not None,
            "fin": side.fin_at is not None,
        }
        expected = {
            "repeated": theirs["retransmission"] + theirs["out_of_order"],
            "duplicate_ack": theirs["duplicate_ack"],
            "lost_segment": theirs["lost_segment"],
            "zero_window": theirs["zero_window"],
            "probes": theirs["keep_alive"] + theirs["zero_window_probe"],
            "reset": theirs["reset"] > 0,
            "fin": theirs["fin"] > 0,
        }
        assert ours == expected, who
        if side.mss is not None:
            assert oracle.mss[who] == {str(side.mss)}
        in_clear = [str(alert.description) for alert in side.alerts]
        assert [alert for alert in oracle.alerts[who] if alert in in_clear] == in_clear
    ours_icmp = Counter((str(e.type), str(e.code), str(e.mtu)) for e in capture.icmp)
    assert ours_icmp == oracle.icmp
    return connection


# -- the peers -------------------------------------------------------------------------------------------------------


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _read_until(stream: socket.socket, size: int) -> int:
    """Read ``size`` bytes, or up to the end."""
    got = 0
    while got < size:
        data = stream.recv(65536)
        if not data:
            break
        got += len(data)
    return got


class Scene:
    """One connection between two peers in the laboratory, captured and analysed."""

    def __init__(self, lab: Lab, tls: Tls, folder: Path) -> None:
        self.lab = lab
        self.tls = tls
        self.folder = folder
        self.family, self.address, self.port = socket.AF_INET, SERVER, PORT
        self.streams: list[ssl.SSLSocket] = []

    def play(
        self,
        serve: Callable[[socket.socket], None],
        use: Callable[[socket.socket], None],
        *options: str,
        at: str = "client",
    ) -> tuple[Connection, Capture]:
        """Play the scene; again if the capture itself missed a packet, which only a real capture can do."""
        for _ in range(4):
            connection, capture, oracle = self._play(serve, use, *options, at=at)
            if not any(counts["ack_lost_segment"] for counts in oracle.counts.values()):
                return connection, capture
        pytest.fail("tcpdump misses packets all the time")

    def _play(
        self, serve: Callable[[socket.socket], None], use: Callable[[socket.socket], None], *options: str, at: str
    ) -> tuple[Connection, Capture, Oracle]:
        ready = threading.Event()

        def server() -> None:
            with socket.create_server((self.address, self.port), family=self.family) as listener:
                ready.set()
                listener.settimeout(60)
                sock, _ = listener.accept()
                sock.settimeout(30)
                with sock:
                    serve(sock)

        def client() -> None:
            with socket.create_connection((self.address, self.port), timeout=30) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                use(sock)

        path = self.folder / "capture.pcap"
        with self.lab.capture(self.lab.client if at == "client" else self.lab.server, path, *options):
            serving = self.lab.start(self.lab.server, server)
            assert ready.wait(10)
            using = self.lab.start(self.lab.client, client)
            using.result()
            serving.result()
            for stream in self.streams:
                stream.close()
        capture = analyse(path)
        assert [problem for problem in capture.problems if "cut" not in problem] == []
        oracle = tshark(path, self.tls)
        return compare(capture, oracle), capture, oracle

    def wrap_client(self, sock: socket.socket) -> ssl.SSLSocket:
        context = self.tls.client
        self.streams.append(context.wrap_socket(sock, server_hostname="example.test", suppress_ragged_eofs=False))
        return self.streams[-1]

    def wrap_server(self, sock: socket.socket) -> ssl.SSLSocket:
        self.streams.append(self.tls.server.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False))
        return self.streams[-1]

    def answer(self, sock: socket.socket, size: int = 5000) -> ssl.SSLSocket:
        """Serve one request and answer."""
        stream = self.wrap_server(sock)
        _read_until(stream, 100)
        stream.sendall(b"a" * size)
        return stream

    def ask(self, sock: socket.socket, size: int = 5000) -> ssl.SSLSocket:
        stream = self.wrap_client(sock)
        stream.sendall(b"q" * 100)
        _read_until(stream, size)
        return stream


@pytest.fixture
def scene(lab: Lab, tls: Tls, tmp_path: Path) -> Scene:
    return Scene(lab, tls, tmp_path)


def serve_cleanly(scene: Scene) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        stream = scene.answer(sock)
        with contextlib.suppress(OSError):
            assert stream.recv(1) == b""
            stream.unwrap()
        stream.close()

    return serve


def use_cleanly(scene: Scene) -> Callable[[socket.socket], None]:
    def use(sock: socket.socket) -> None:
        stream = scene.ask(sock)
        stream.unwrap()
        stream.close()

    return use


def play_cleanly(scene: Scene, *options: str) -> tuple[Connection, Capture]:
    """A connection that ends in good order; again where the capture missed its last packets, to which no ACK points."""
    connection, capture = scene.play(serve_cleanly(scene), use_cleanly(scene), *options)
    for _ in range(3):
        if connection.client.fin_at is not None and connection.server.fin_at is not None:
            break
        connection, capture = scene.play(serve_cleanly(scene), use_cleanly(scene), *options)
    return connection, capture


# -- the tests -------------------------------------------------------------------------------------------------------

LINKS: list[Any] = [
    pytest.param((), id="ethernet"),
    pytest.param(("-i", "any", "-y", "LINUX_SLL"), id="cooked"),
    pytest.param(("-i", "any", "-y", "LINUX_SLL2"), id="cooked-v2"),
]


@pytest.mark.parametrize("options", LINKS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_clean_connections_are_told_like_tshark_tells_them(
    scene: Scene, options: tuple[str, ...], version: ssl.TLSVersion, family: socket.AddressFamily
) -> None:
    if family == socket.AF_INET6:
        scene.family, scene.address = family, SERVER6
    scene.tls.server.maximum_version = version
    try:
        connection, capture = play_cleanly(scene, *options)
    finally:
        scene.tls.server.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert connection.tls is not None
    assert connection.tls.version == {"TLSv1_2": "TLS 1.2", "TLSv1_3": "TLS 1.3"}[version.name]
    assert connection.tls.established
    assert connection.exchanges == 1
    assert connection.client.close_notify is CloseNotify.LIKELY
    assert conclude(capture) == []


@pytest.mark.parametrize("tags", [b"\x81\0\0\5", b"\x88\xa8\0\7\x81\0\0\5"], ids=["vlan", "qinq"])
def test_frames_with_vlan_tags_are_read(scene: Scene, tags: bytes) -> None:
    connection, _ = play_cleanly(scene)
    problems: list[str] = []
    with (scene.folder / "capture.pcap").open("rb") as file:
        frames = [Captured(time, data[:12] + tags + data[12:]) for time, _, data, _ in read_packets(file, problems)]
    tagged = scene.folder / "tagged.pcap"
    tagged.write_bytes(pcap(frames))
    again = compare(analyse(tagged), tshark(tagged, scene.tls))
    assert again.server == connection.server
    assert again.client.close_notify is CloseNotify.LIKELY


def test_pcapng_gives_the_same_as_pcap(scene: Scene) -> None:
    if shutil.which("editcap") is None:
        pytest.skip("not installed: editcap")
    connection, _ = play_cleanly(scene)
    other = scene.folder / "capture.pcapng"
    run("editcap", "-F", "pcapng", str(scene.folder / "capture.pcap"), str(other))
    (again,) = analyse(other).connections
    assert again.events == connection.events
    assert again.server == connection.server


def test_fin_without_close_notify(scene: Scene) -> None:
    def serve(sock: socket.socket) -> None:
        stream = scene.answer(sock)
        stream.detach()  # the descriptor is closed below, without TLS shutdown
        os.close(descriptor[0])

    descriptor: list[int] = []

    def keep(sock: socket.socket) -> None:
        descriptor.append(sock.fileno())
        serve(sock)

    def use(sock: socket.socket) -> None:
        stream = scene.ask(sock)
        with pytest.raises((ssl.SSLError, OSError)):
            stream.recv(1)

    connection, capture = scene.play(keep, use)
    assert connection.server.close_notify is CloseNotify.NO
    assert next(e for e in connection.events if e.kind is EventKind.FIN).by is Who.SERVER
    assert conclude(capture)[0].name == "no_close_notify"


def test_reset_in_the_handshake(scene: Scene) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        _reset(sock)

    def use(sock: socket.socket) -> None:
        with pytest.raises(OSError):  # noqa: PT011 - whatever the TLS library makes of it
            scene.wrap_client(sock)

    connection, capture = scene.play(serve, use)
    assert connection.ended_in is Phase.TLS_HANDSHAKE
    assert conclude(capture)[0].name == "reset_in_handshake"


def test_fin_in_the_handshake(scene: Scene) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(4096)

    def use(sock: socket.socket) -> None:
        with pytest.raises(OSError):  # noqa: PT011
            scene.wrap_client(sock)

    _, capture = scene.play(serve, use)
    assert conclude(capture)[0].name == "closed_in_handshake"


@pytest.mark.parametrize("by", [Who.CLIENT, Who.SERVER])
def test_reset_in_data_names_its_sender(scene: Scene, by: Who) -> None:
    gone = threading.Event()

    def finish(stream: ssl.SSLSocket) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()

    def serve(sock: socket.socket) -> None:
        stream = scene.answer(sock)
        if by is Who.SERVER:
            _read_until(stream, 1)
            finish(stream)
        else:
            with pytest.raises(OSError):  # noqa: PT011
                stream.recv(1)

    def use(sock: socket.socket) -> None:
        stream = scene.ask(sock)
        if by is Who.CLIENT:
            finish(stream)
        else:
            stream.sendall(b"q")
            with pytest.raises(OSError):  # noqa: PT011
                stream.recv(1)
        gone.set()

    connection, capture = scene.play(serve, use)
    assert connection.side(by).rst_at is not None
    assert conclude(capture)[0].name == f"reset_by_{by}"


def test_version_alert(scene: Scene) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_3

    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            server.wrap_socket(sock, server_side=True)

    def use(sock: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(sock)

    connection, capture = scene.play(serve, use)
    assert [alert.name for alert in connection.server.alerts] == ["protocol_version"]
    assert conclude(capture)[0].name == "tls_version_mismatch"


def test_certificate_that_the_client_refuses(scene: Scene) -> None:
    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            scene.wrap_server(sock)

    def use(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(sock, server_hostname="example.test")

    _, capture = scene.play(serve, use)
    assert conclude(capture)[0].name == "certificate_rejected"


def test_zero_windows_and_their_probes(scene: Scene) -> None:
    stalled, enough = threading.Event(), threading.Event()

    def serve(sock: socket.socket) -> None:
        stalled.wait(20)
        enough.wait(20)
        while sock.recv(65536):
            pass

    def use(sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003
        while select.select([], [sock], [], 0.5)[1]:  # a full buffer of ours alone is soon emptied
            with contextlib.suppress(BlockingIOError):
                sock.send(b"x" * 4096)
        stalled.set()
        time.sleep(1.5)  # the closed window shall last for two or three probes
        enough.set()

    connection, capture = scene.play(serve, use)
    assert connection.server.zero_windows > 0
    assert connection.client.window_probes > 0
    assert conclude(capture)[0].name == "slow_receiver"


def test_keepalive_probes(scene: Scene) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1)

    def use(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        time.sleep(2.5)  # the kernel's smallest keepalive time is a second

    connection, capture = scene.play(serve, use)
    assert connection.client.keepalive_probes >= 2  # more, on a machine that sleeps for longer
    assert conclude(capture) == []


@pytest.mark.parametrize("at", ["client", "server"])
def test_loss_is_counted_as_tshark_counts_it(scene: Scene, lab: Lab, at: str) -> None:
    if shutil.which("nft") is None:
        pytest.skip("not installed: nft")
    size = 1_000_000
    lab.nft("add table ip loss; add chain ip loss forward { type filter hook forward priority 0; };")
    try:
        lab.nft("add rule ip loss forward ip saddr 10.211.2.2 ip length > 500 numgen inc mod 30 == 0 drop")
        connection, capture = scene.play(
            lambda sock: scene.answer(sock, size).close(), lambda sock: scene.ask(sock, size).close(), at=at
        )
    finally:
        lab.nft("delete table ip loss")
    assert connection.server.retransmissions + connection.server.out_of_order >= 10
    assert "packet_loss" in [cause.name for cause in conclude(capture)]


def test_fragmentation_needed_is_counted_with_its_mtu(scene: Scene, lab: Lab) -> None:
    lab.ip(lab.router, "link", "set", "wc", "mtu", "1300")
    try:
        connection, capture = scene.play(
            lambda sock: scene.answer(sock, 20_000).close(), lambda sock: scene.ask(sock, 20_000).close(), at="server"
        )
    finally:
        lab.ip(lab.router, "link", "set", "wc", "mtu", "1500")
        lab.ip(lab.server, "route", "flush", "cache")
    assert {error.mtu for error in capture.icmp if error.type == 3} == {1300}
    assert any(event.by is Who.PATH for event in connection.events)


def test_close_notify_is_found_where_the_keys_show_it(scene: Scene) -> None:
    connection, _ = play_cleanly(scene)
    oracle = tshark(scene.folder / "capture.pcap", scene.tls)
    for who in (Who.CLIENT, Who.SERVER):
        decrypted = "0" in oracle.alerts[who]
        assert (connection.side(who).close_notify is CloseNotify.LIKELY) == decrypted
