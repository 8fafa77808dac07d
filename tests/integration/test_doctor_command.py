"""``holdwire doctor``: causes staged on this machine, and the one that it ranks first. Healthy servers are no alarm.

The stages (``tests.stages``) run side by side: they mostly wait.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme

from holdwire.cli import main
from holdwire.cli.output import Output
from holdwire.doctor.case import Case
from holdwire.doctor.rungs import conversation, handshake
from holdwire.doctor.target import Target
from holdwire.testing import Answer, ChaosServer, Request
from tests.forks import in_child
from tests.proxies import StubProxy
from tests.side_by_side import SideBySide
from tests.stages import HEALTHY, LAB, STAGES, answering, place, program, tls_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAST = ("--timeout", "1.5")
seen: dict[str, tuple[str, str, float]] = {}
"""Each stage: what was staged, what was concluded, how sure."""


def doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command; its exit code and its document."""
    if arguments[0].startswith("@"):
        command = [*("ip", "netns", "exec", arguments[0][1:]), sys.executable, "-m", "holdwire", "doctor", "--json"]
        done = subprocess.run([*command, *arguments[1:]], capture_output=True, text=True, timeout=150, check=False)
        return done.returncode, json.loads(done.stdout)
    out = io.StringIO()
    code = main(["doctor", "--json", *arguments], output=Output(out=out, err=io.StringIO()))
    document: dict[str, Any] = json.loads(out.getvalue())
    return code, document


def first(document: dict[str, Any]) -> str:
    return document["conclusion"][0]["name"] if document["conclusion"] else HEALTHY


def rung(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["rungs"] if one["rung"] == name)
    return found


def evidence(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = rung(document, name)["evidence"]
    return found


Examined = SideBySide[tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def examined(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examined]:
    """What the command says of every stage."""
    base = tmp_path_factory.mktemp("stages")

    def look(name: str) -> tuple[int, dict[str, Any]]:
        folder = base / name
        folder.mkdir()
        with (STAGES | LAB)[name].arguments(folder) as arguments:
            return doctor(*arguments)

    found = SideBySide(request, "name", look, threads=8)
    yield found
    found.close()


def concluded(examined: Examined, name: str) -> dict[str, Any]:
    """The document about a stage, whose cause must come out first."""
    staged = (STAGES | LAB)[name].cause
    code, document = examined[name]
    found = first(document)
    seen[name] = staged, found, document["conclusion"][0]["confidence"] if document["conclusion"] else 1.0
    assert found == staged, json.dumps(document, indent=1)
    assert code == (1 if document["verdict"] == "failed" else 0)
    assert document["headline"]
    return document


@pytest.mark.parametrize("name", STAGES)
def test_the_staged_cause_is_ranked_first(name: str, examined: Examined) -> None:
    document = concluded(examined, name)
    assert document["connections"] <= 40
    if STAGES[name].cause == HEALTHY:
        assert document["verdict"] == "ok", document["headline"]


ROUTERS = {"a_firewall_that_drops": "10.77.1.1", "a_firewall_that_drops_ipv6": "fd00:77:1::1"}


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("name", LAB)
def test_the_cause_staged_on_the_path_is_ranked_first(name: str, examined: Examined) -> None:
    document = concluded(examined, name)
    if name in ROUTERS:
        hops = evidence(document, "tcp")["route"]
        assert hops[0]["router"] == ROUTERS[name], "the traceroute names the last router that answers"
    if name == "a_path_without_faults":
        assert evidence(document, "mtu")["pmtu_bytes"] == 1500


# --- what it says beside the cause ---


def test_a_healthy_server_is_described(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with ChaosServer(tls=tls_server(ca)) as server:
        code, document = doctor("--ca", str(tmp_path / "ca.pem"), place(server))
    assert (code, document["verdict"], document["conclusion"]) == (0, "ok", [])
    rungs = {one["rung"]: one["verdict"] for one in document["rungs"]}
    assert {rungs[name] for name in ("dns", "tcp", "tls", "mtu", "http", "reuse", "close", "loss")} == {"ok"}
    tls = evidence(document, "tls")
    assert tls["messages"][:2] == ["sent client_hello", "received server_hello"]
    assert tls["versions"] == {"TLSv1.2": "ok", "TLSv1.3": "ok"}
    assert tls["protocols"] == {"h2": None, "http/1.1": None}
    assert tls["ocsp_stapled"] == "no"
    assert document["vantage"]["source"] == "127.0.0.1"
    assert evidence(document, "resources")["sockets_by_state"]["LISTEN"] >= 1


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="needs IPv6"))]
)
def test_a_staple_is_denied_only_where_openssl_saw_that_there_is_none(host: str) -> None:
    with ChaosServer(host=host, tls=True) as server:
        case = Case(target=Target(host, server.address[1], secure=True), server_name="localhost")
        assert anyio.run(handshake.stapled, case) == "no"
        server.script("handshake rst")
        assert anyio.run(handshake.stapled, case).startswith("unknown")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_server_with_old_versions_only(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = tls_server(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with ChaosServer(tls=context) as server:
        _, document = doctor(*FAST, "--tls", "--ca", str(tmp_path / "ca.pem"), place(server))
    assert first(document) == "tls_version_mismatch"


def test_a_certificate_that_is_not_accepted_is_shown() -> None:
    with ChaosServer(tls=tls_server(trustme.CA())) as server:
        _, document = doctor(*FAST, "--tls", place(server))
    tls = evidence(document, "tls")
    assert tls["certificate"]["not_after"]
    assert tls["chain_length"] == 1
    assert tls["messages"][-1] == "sent unknown_ca", "the alert is among the messages"


def test_a_server_that_accepts_no_more_has_crashed_as_far_as_one_can_see_from_outside() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        case = Case(target=Target("127.0.0.1", listener.getsockname()[1], secure=False))
    http, reuse = anyio.run(lambda: conversation.look(case, verify=True))
    assert (http.verdict, reuse.verdict) == ("failed", "skipped")
    assert [sign.name for sign in http.signs] == ["server_crashed"]


async def test_who_interrupts_the_wait_for_an_answer_leaves_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        case = Case(target=Target("127.0.0.1", listener.getsockname()[1], secure=False))
        listener.settimeout(5)
        async with anyio.create_task_group() as group:
            looking = anyio.CancelScope()

            async def look() -> None:
                with looking:
                    await conversation.look(case, verify=True)

            group.start_soon(look)
            server, _ = await anyio.to_thread.run_sync(listener.accept)
            server.settimeout(5)
            with server:
                await anyio.to_thread.run_sync(server.recv, 1000)
                looking.cancel()
                with pytest.raises(ConnectionResetError):
                    await anyio.to_thread.run_sync(server.recv, 1000)


def test_logs_are_looked_into(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text("recv() failed (104: Connection reset by peer) while reading response header from upstream\n" * 3)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        _, document = doctor(*FAST, "--log", str(log), f"127.0.0.1:{bound.getsockname()[1]}")
    assert evidence(document, "logs")[str(log)] == {"ECONNRESET": 3}
    assert f"{log}: ECONNRESET x3" in rung(document, "logs")["summary"]


# --- what the client is set to ---


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--idle-limit", "40"), "the keepalive of profile 'default' comes too late, after 60 s"),
        (("--idle-limit", "40", "--heartbeat", "50"), "the heartbeat comes too late, after 50 s"),
        (("--idle-limit", "350", "--profile", "aws-alb", "--heartbeat", "20"), ""),
        (("--idle-limit", "40", "--heartbeat", "20"), ""),
        (("--idle-limit", "40", "--profile", "lan"), ""),
        (("--idle-limit", "61"), ""),
    ],
)
def test_what_is_sent_in_silence_is_held_against_a_known_limit(options: tuple[str, ...], told: str) -> None:
    with socket.socket() as bound:  # nobody has to listen there
        bound.bind(("127.0.0.1", 0))
        _, document = doctor(*FAST, *options, f"127.0.0.1:{bound.getsockname()[1]}")
    configuration = rung(document, "configuration")
    assert configuration["verdict"] == ("warning" if told else "ok")
    assert [one["name"] for one in configuration["signs"]] == (["idle_reset"] if told else [])
    assert told in configuration["summary"]


@pytest.mark.parametrize(("seconds", "verdict"), [(1, "warning"), (30, "ok")])
def test_what_the_server_announces_is_held_against_the_pool(seconds: int, verdict: str) -> None:
    with ChaosServer() as server:
        server.answer("/", Answer(headers=(("keep-alive", f"timeout={seconds}, max=100"),)))
        code, document = doctor(*FAST, server.url)
    assert (code, rung(document, "configuration")["verdict"]) == (0, verdict)
    assert f"the server announces that it closes after {seconds} s" in rung(document, "configuration")["summary"]


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
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    seen["a client without descriptors"] = "descriptors_short", first(document), 0.9
    assert (done.returncode, first(document)) == (1, "descriptors_short")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "a_server_that_speaks_no_http",
            {
                "surroundings": "without root the kernel's log and other users' processes are not looked at",
                "logs": "the kernel's log is for root to read",
            },
        ),
        ("a_server_whose_only_worker_waits", {"server": "belongs to user 0: only that user and root see more"}),
    ],
)
def test_without_root_it_looks_as_well_and_says_what_only_root_sees(
    name: str, told: dict[str, str], tmp_path: Path
) -> None:
    with STAGES[name].arguments(tmp_path) as arguments:
        doctor("--timeout", "0.2", *arguments[-2:])  # imports late what nobody may not read

        def as_nobody() -> None:
            os.setgid(65534)
            os.setuid(65534)
            _, document = doctor(*arguments)
            assert first(document) == STAGES[name].cause
            for where, text in told.items():
                assert text in rung(document, where)["summary"]

        assert in_child(as_nobody) == 0


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


def test_an_address_that_lacks_its_interface_is_not_called_a_crash_of_the_server() -> None:
    code, document = doctor(*FAST, "--plain", "[fe80::1]:80")
    assert (code, first(document)) == (1, "address_incomplete")


def test_the_server_is_asked_by_the_name_that_it_has_on_the_wire() -> None:
    hosts: set[str | None] = set()

    def note(request: Request) -> Answer:
        hosts.add(request.header("host"))
        return Answer()

    with ChaosServer(tls=False) as server:
        server.handle("/health", note)
        port = server.url.rpartition(":")[2]
        code, document = doctor(*FAST, "--resolve", "127.0.0.1", f"http://b\u00fccher.example:{port}/health")
        assert code == 0, document["headline"]
        assert hosts == {f"xn--bcher-kva.example:{port}"}


def test_an_answer_without_an_end_is_looked_at_for_as_long_as_a_step_may_take() -> None:
    endless = """
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        while True:
            with listener.accept()[0] as peer, contextlib.suppress(OSError):
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\n\\r\\n")
                while True:
                    peer.sendall(b": still here\\n\\n")
                    time.sleep(0.02)
    """
    with program(endless) as (port, _):
        code, document = doctor("--timeout", "0.5", "--plain", f"127.0.0.1:{port}")
    assert code == 0, document["headline"]
    assert "no end yet" in rung(document, "http")["summary"]
    assert (rung(document, "reuse")["verdict"], rung(document, "close")["verdict"]) == ("skipped", "skipped")


def test_the_password_of_a_proxy_is_unquoted() -> None:
    with answering(b"220 ready\r\n") as port, StubProxy() as proxy:
        doctor(*FAST, "--plain", "--proxy", f"http://me:p%40ss@{proxy.name}", f"127.0.0.1:{port}")
    credentials = base64.b64encode(b"me:p@ss")
    assert proxy.heads
    assert all(b"Proxy-Authorization: Basic " + credentials in head for head in proxy.heads)


def test_a_port_whose_security_nobody_knows_is_asked_at_the_given_address() -> None:
    with answering(b"220 mail.example ESMTP\r\n") as port:
        code, document = doctor(*FAST, "--resolve", "127.0.0.1", f"no-such-host.invalid:{port}")
    assert code == 0, document["headline"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--timeout", "0", "h"],
        ["--timeout", "nan", "h"],
        ["--repeat", "0", "h"],
        ["--resolve", "no-address", "h"],
        ["--ca", "/dev/null", "h"],
        ["--proxy", "ftp://x", "h"],
        ["user:pw@h"],
        ["--ca", "/no/such/file", "h"],
        ["--profile", "no-such-profile", "h"],
        ["--log", "/no/such/file", "h"],
        ["--idle", "0", "h"],
        ["--path", "/\u00e9", "h"],
        ["--path", "/ HTTP/1.1\r\nX: y", "h"],
    ],
)
def test_wrong_usage_opens_nothing_and_says_why(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "holdwire doctor:" in err
    assert "pw" not in err
    if wrong[0].startswith("--") and wrong[0] not in {"--profile", "--proxy"}:
        assert f"argument {wrong[0]}: " in err


def test_the_confusion_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Last: what was staged against what was concluded."""
    with capsys.disabled():
        rows = [
            f"{name:56} {one:26} {found:26} {sure:.0%}{'' if one == found else '   WRONG'}"
            for name, (one, found, sure) in seen.items()
        ]
        head = f"{'stage':56} {'cause':26} {'ranked first':26} confidence"
        sys.stdout.write("\n".join(["", head, *rows, ""]))
    assert all(staged == found for staged, found, _ in seen.values())
