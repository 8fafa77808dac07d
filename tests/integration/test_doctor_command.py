"""``holdwire doctor``: causes staged on this machine, and the one that it ranks first. Healthy servers are no alarm."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import socket
import ssl
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from holdwire.cli import main
from holdwire.testing import Answer, ChaosServer
from tests.netns import SERVER, Lab, lab
from tests.nginx import nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from holdwire.testing.certificates import Identity

FAST = ("--timeout", "1.5")
seen: list[tuple[str, str, float]] = []
"""What was staged, what was concluded, how sure."""


def doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command; its exit code and its document."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main(["doctor", "--json", *arguments])
    document: dict[str, Any] = json.loads(out.getvalue())
    return code, document


def first(document: dict[str, Any]) -> str:
    return document["conclusion"][0]["name"] if document["conclusion"] else "healthy"


def conclude(staged: str, *arguments: str) -> dict[str, Any]:
    """Run the command against a staged cause, which must come out first."""
    code, document = doctor(*FAST, *arguments)
    found = first(document)
    seen.append((staged, found, document["conclusion"][0]["confidence"] if document["conclusion"] else 1.0))
    assert found == staged, json.dumps(document, indent=1)
    assert code == (1 if document["verdict"] == "failed" else 0)
    assert document["headline"]
    assert document["connections"] <= 40
    return document


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, str]:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return ca, str(tmp_path / "ca.pem")


def tls_server(ca: trustme.CA, *names: str, days: tuple[int, int] = (-1, 90)) -> ssl.SSLContext:
    now = datetime.datetime.now(datetime.UTC)
    leaf = ca.issue_cert(
        *(names or ("localhost", "127.0.0.1")),
        not_before=now + datetime.timedelta(days=days[0]),
        not_after=now + datetime.timedelta(days=days[1]),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def trusted(identity: Identity, folder: Path) -> str:
    (folder / "authority.pem").write_bytes(identity.authority)
    return str(folder / "authority.pem")


def place(server: ChaosServer, host: str = "localhost") -> str:
    return f"{host}:{server.url.rpartition(':')[2]}"


@contextlib.contextmanager
def answering(data: bytes, *, after: bool = False) -> Generator[int]:
    """A process that says ``data`` on each connection, ``after`` something has come, and closes."""
    program = textwrap.dedent("""
        import contextlib, socket, sys
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        while True:
            with listener.accept()[0] as peer, contextlib.suppress(OSError):
                if sys.argv[2] == "True":
                    peer.recv(4096)
                peer.sendall(bytes.fromhex(sys.argv[1]))
                peer.recv(4096)
    """)
    command = [sys.executable, "-c", program, data.hex(), str(after)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


# --- healthy servers ---


def test_a_healthy_tls_server_is_no_alarm(authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority
    with ChaosServer(tls=tls_server(ca)) as server:
        code, document = doctor("--ca", file, place(server))
    assert (code, document["verdict"], document["conclusion"]) == (0, "ok", ()) or document["conclusion"] == []
    rungs = {rung["rung"]: rung["verdict"] for rung in document["rungs"]}
    assert {rungs[name] for name in ("dns", "tcp", "tls", "mtu", "http", "reuse", "close")} == {"ok"}
    tls = next(rung["evidence"] for rung in document["rungs"] if rung["rung"] == "tls")
    assert tls["messages"][:2] == ["sent client_hello", "received server_hello"]
    assert tls["versions"] == {"TLSv1.2": "ok", "TLSv1.3": "ok"}
    assert tls["protocols"] == {"h2": None, "http/1.1": None}
    assert tls["ocsp_stapled"] == "no"
    assert document["vantage"]["source"] == "127.0.0.1"


def test_a_healthy_plain_server_is_no_alarm() -> None:
    with ChaosServer() as server:
        code, document = doctor(server.url, "--strict")
    assert (code, document["verdict"]) == (0, "ok")


def test_a_server_that_speaks_no_http_is_no_alarm() -> None:
    with answering(b"220 mail.example ESMTP\r\n") as port:
        code, document = doctor(*FAST, "--plain", f"127.0.0.1:{port}")
    assert code == 0, document["headline"]


@pytest.mark.server
def test_nginx_is_no_alarm(tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        code, document = doctor("--ca", trusted(server.identity, tmp_path), f"localhost:{server.port}")
    assert (code, document["verdict"]) == (0, "ok"), document["headline"]


# --- names and connections ---


def test_a_name_that_does_not_exist() -> None:
    conclude("name_not_found", "no-such-host.invalid")


def test_a_port_without_a_listener() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        conclude("refused", f"127.0.0.1:{bound.getsockname()[1]}")


def test_a_listener_whose_backlog_is_full() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        conclude("backlog_full", "--plain", f"127.0.0.1:{listener.getsockname()[1]}")


# --- TLS ---

FAULTS = {
    "reset_in_handshake": "handshake rst",
    "closed_in_handshake": "handshake fin_without_close_notify",
    "server_not_answering": "handshake stall",
}


@pytest.mark.parametrize("staged", FAULTS)
def test_a_handshake_that_fails(staged: str, authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority
    with ChaosServer(tls=tls_server(ca)) as server:
        server.sprinkle(FAULTS[staged], share=1.0)
        conclude(staged, "--tls", "--ca", file, place(server))


CERTIFICATES: dict[str, tuple[tuple[str, ...], tuple[int, int]]] = {
    "certificate_expired": ((), (-90, -1)),
    "certificate_not_yet_valid": ((), (5, 90)),
    "certificate_name_mismatch": (("other.example",), (-1, 90)),
    "certificate_expires_soon": ((), (-1, 5)),
}


@pytest.mark.parametrize("staged", CERTIFICATES)
def test_a_certificate_that_is_wrong(staged: str, authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority
    names, days = CERTIFICATES[staged]
    with ChaosServer(tls=tls_server(ca, *names, days=days)) as server:
        document = conclude(staged, "--tls", "--ca", file, place(server))
    tls = next(rung for rung in document["rungs"] if rung["rung"] == "tls")
    assert tls["evidence"]["certificate"]["not_after"], "the certificate is shown although it is not accepted"


def test_a_certificate_that_nobody_here_trusts(authority: tuple[trustme.CA, str]) -> None:
    with ChaosServer(tls=tls_server(authority[0])) as server:
        document = conclude("certificate_untrusted", "--tls", place(server))
    tls = next(rung["evidence"] for rung in document["rungs"] if rung["rung"] == "tls")
    assert tls["messages"][-1] == "sent unknown_ca", "the alert is among the messages"


def test_a_plain_server_on_the_tls_port() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", after=True) as port:
        conclude("not_tls", "--tls", f"127.0.0.1:{port}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_server_with_old_versions_only(authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority
    context = tls_server(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with ChaosServer(tls=context) as server:
        conclude("tls_version_mismatch", "--tls", "--ca", file, place(server))


def test_a_name_that_is_filtered(authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority
    context = tls_server(ca)
    context.sni_callback = lambda _, name, __: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name else None
    with ChaosServer(tls=context) as server:
        conclude("server_name_filtered", "--tls", "--ca", file, place(server))


def test_a_server_that_wants_a_client_certificate(authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority
    context = tls_server(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    with ChaosServer(tls=context) as server:
        conclude("client_certificate_required", "--tls", "--ca", file, place(server))


def test_a_server_that_leaves_out_close_notify(authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority
    with ChaosServer(tls=tls_server(ca)) as server:
        server.sprinkle("response:end fin_without_close_notify", share=1.0)
        conclude("no_close_notify", "--tls", "--ca", file, place(server))


# --- answers ---


def test_a_server_that_resets_instead_of_an_answer() -> None:
    with ChaosServer() as server:
        server.sprinkle("response:0 rst", share=1.0)
        conclude("reset_by_server", server.url)


def test_a_server_that_closes_instead_of_an_answer() -> None:
    with ChaosServer() as server:
        server.sprinkle("response:0 fin", share=1.0)
        conclude("closed_without_answer", server.url)


def test_a_server_that_is_stuck() -> None:
    with ChaosServer() as server:
        server.sprinkle("response:0 stall", share=1.0)
        conclude("server_not_answering", server.url)


def test_a_gateway_without_a_backend() -> None:
    with ChaosServer() as server:
        server.answer("/", Answer(status=502))
        conclude("gateway_error", server.url)


def test_a_server_that_closes_idle_connections_at_once() -> None:
    with ChaosServer() as server:
        server.sprinkle("idle:0.3 fin", share=1.0)
        conclude("idle_limit", server.url)


def test_a_server_out_of_descriptors() -> None:
    program = textwrap.dedent("""
        import resource, socket, time
        listener = socket.create_server(("127.0.0.1", 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno() + 1, listener.fileno() + 1))
        print(listener.getsockname()[1], flush=True)
        while True:
            try:
                listener.accept()
            except OSError:
                time.sleep(0.05)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        conclude("server_not_answering", "--tls", f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_our_own_lack_of_descriptors_is_not_blamed_on_the_server() -> None:
    program = textwrap.dedent("""
        import contextlib, io, resource, socket, sys
        from holdwire.cli import main

        command = ["doctor", "--json", "--timeout", "1.5", sys.argv[1]]
        with contextlib.redirect_stdout(io.StringIO()):
            main(command)  # whatever is imported late is imported now
        newest = socket.socket()
        for_the_loop = 4
        most = newest.fileno() + 1 + for_the_loop
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        sys.exit(main(command))
    """)
    with ChaosServer() as server:
        command = [sys.executable, "-c", program, server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    seen.append(("descriptors_short", first(document), 0.9))
    assert (done.returncode, first(document)) == (1, "descriptors_short")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_root_it_looks_as_well() -> None:
    with ChaosServer() as server:
        doctor(server.url)  # whatever is imported late is imported now: a user without rights may not see the files
        child = os.fork()
        if not child:
            code = 3
            try:
                os.setgid(65534)
                os.setuid(65534)
                code, document = doctor(server.url, "--strict")
                if next(one for one in document["rungs"] if one["rung"] == "surroundings")["evidence"]["root"]:
                    code = 4
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# --- the path ---


@pytest.fixture
def net() -> Iterator[Lab]:
    with lab() as made:
        yield made


@contextlib.contextmanager
def across(net: Lab, **options: Any) -> Generator[ChaosServer]:
    """A server behind the router; the calling thread is the client."""
    with net.on(net.server):
        server = ChaosServer(host=SERVER, **options)
        server.__enter__()
    try:
        with net.on(net.client):
            yield server
    finally:
        server.__exit__(None, None, None)


def drop(net: Lab) -> None:
    net.drop_all()


def unreachable(net: Lab) -> None:
    net.nft("add rule inet f fw ip protocol tcp reject with icmp type host-unreachable")


def rejected(net: Lab) -> None:
    net.nft("add rule inet f fw meta l4proto tcp reject with tcp reset")


def black_hole_for_large_packets(net: Lab) -> None:
    net.nft("add rule inet f fw ip length > 1000 drop")


PATHS: dict[str, Callable[[Lab], None]] = {
    "syn_dropped": drop,
    "unreachable": unreachable,
    "refused": rejected,
    "mtu_black_hole": black_hole_for_large_packets,
}


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("staged", PATHS)
def test_a_path_that_is_broken(net: Lab, staged: str) -> None:
    with across(net) as server:
        PATHS[staged](net)
        document = conclude(staged, server.url)
    if staged == "syn_dropped":
        tcp = next(rung for rung in document["rungs"] if rung["rung"] == "tcp")
        assert tcp["evidence"]["route"][0]["router"] == "10.77.1.1", "the traceroute names the last router that answers"


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_healthy_path_is_no_alarm(net: Lab) -> None:
    with across(net) as server:
        code, document = doctor(server.url)
    assert (code, document["verdict"]) == (0, "ok"), document["headline"]
    mtu = next(rung for rung in document["rungs"] if rung["rung"] == "mtu")
    assert mtu["evidence"]["pmtu_bytes"] == 1500


# --- the command ---


def test_a_person_reads_the_verdict_first_and_then_from_where_it_was_looked(capsys: pytest.CaptureFixture[str]) -> None:
    with ChaosServer() as server:
        server.sprinkle("response:0 rst", share=1.0)
        assert main(["doctor", *FAST, server.url]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("failed: the connection is reset instead of an answer (evidence: ")
    assert lines[1].startswith("from host ")
    assert "no proxy" in lines[1]
    assert "at most 40 connections" in err


def test_a_fault_that_comes_and_goes_is_found_by_looking_again(capsys: pytest.CaptureFixture[str]) -> None:
    with ChaosServer() as server:
        for _ in range(4):
            server.script("")
        server.sprinkle("response:0 rst", share=1.0)
        assert main(["doctor", *FAST, "--repeat", "2", server.url]) == 1
    assert "reset instead of an answer" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    "wrong", [["--timeout", "0", "h"], ["--proxy", "ftp://x", "h"], ["user:pw@h"], ["--ca", "/no/such/file", "h"]]
)
def test_wrong_usage_opens_nothing_and_says_why(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "holdwire doctor:" in err
    assert "pw" not in err


def test_the_confusion_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Last: what was staged against what was concluded."""
    with capsys.disabled():
        rows = [f"{one:32} {found:32} {sure:.0%}{'' if one == found else '   WRONG'}" for one, found, sure in seen]
        sys.stdout.write("\n".join(["", f"{'staged':32} {'ranked first':32} confidence", *rows, ""]))
    assert all(staged == found for staged, found, _ in seen)
