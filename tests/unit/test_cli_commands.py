"""The command line itself: help, exit codes, streams, locale, colours, speed of the start."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from holdwire.cli import main
from holdwire.cli.commands import COMMANDS
from holdwire.cli.idle import _unescaped
from holdwire.cli.output import Output
from tests.pcap_writer import RST, SYN, Conversation

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "holdwire", *arguments],
        input=stdin,
        env=None if env is None else {**os.environ, **env},
        capture_output=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_every_command_teaches_by_help(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    name = getattr(command, "name", "")

    assert main([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"holdwire {name}" in told
    assert "exit code" in told


def test_help_lists_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {command.name} " in told for command in COMMANDS)
    assert "exit codes: 0 healthy, 1 a problem found, 2 could not look" in told


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["explain", "--nonsense"]])
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: holdwire" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("é €", "é €".encode()),
        (r"é\r\n", b"\xc3\xa9\r\n"),
        (r"\xe9\x00", b"\xe9\0"),
        ("\udce9", b"\xe9"),  # how Python shows a byte of the command line that is no UTF-8
    ],
)
def test_idle_sends_letters_as_utf_8_and_escapes_as_they_are(text: str, sent: bytes) -> None:
    assert _unescaped(text) == sent


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("holdwire ")


def test_the_start_imports_neither_other_commands_nor_http_nor_rich() -> None:
    program = (
        "import sys; from holdwire.cli import main; main(['explain', 'ECONNRESET']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr.split()

    unwanted = {"httpx", "anyio", "rich", "opentelemetry", "psutil", "holdwire.doctor.pcap", "holdwire.testing"}
    assert unwanted.isdisjoint(loaded)


def test_standard_input_is_explained() -> None:
    done = run("explain", stdin=b"\xff broken bytes, Connection reset by peer\n")

    assert done.returncode == 0
    assert done.stdout.startswith(b"ECONNRESET: ")


def test_unknown_text_exits_2() -> None:
    assert run("explain", "hello").returncode == 2


def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json", "EPIPE"]) == 0
    assert json.loads(capsys.readouterr().out)["explanations"][0]["code"] == "EPIPE"


def test_a_locale_without_the_letters_does_not_break_the_output() -> None:
    done = run("explain", "connection reset", env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"})

    assert done.returncode == 0
    assert done.stderr == b""


def test_output_is_plain_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", "ECONNRESET"])

    assert "\x1b" not in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    Output(out=out, err=io.StringIO()).verdict("failed", "x")

    assert "\x1b[" in out.getvalue()


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    Output(out=out, err=io.StringIO()).verdict("failed", "x")

    assert out.getvalue() == "failed: x\n"


@pytest.mark.parametrize("colour", [False, True])
def test_control_characters_of_a_peer_never_reach_the_terminal(*, colour: bool) -> None:
    out = io.StringIO()
    Output(out=out, err=io.StringIO(), colour=colour).line("evil \x1b]0;title\x07 [red]text[/red]")

    assert "\x1b]" not in out.getvalue()
    assert "\\x1b]0;title\\x07 [red]text[/red]" in out.getvalue()


def test_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m holdwire explain ECONNRESET | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("explain EPIPE >&-", 0, b"", b""),
        ("--version >&-", 0, b"", b""),
        ("nonsense >&-", 2, b"", b"invalid choice"),
        ("pcap --json /dev/null 2>&-", 2, b'{\n  "verdict": "unknown"', b""),
        ("explain <&-", 2, b"Nothing in this is known", b""),
        ("explain EPIPE >/dev/full", 2, b"", b"holdwire: cannot write the result: No space left on device\n"),
        ("explain EPIPE 2>/dev/full", 0, b"EPIPE: ", b""),
        ("chaos --to a:1 --seconds 0.1 | true; exit ${PIPESTATUS[0]}", 0, b"", b""),
    ],
)
def test_streams_that_are_closed_or_full_are_no_crash(line: str, code: int, out: bytes, err: bytes) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f"{sys.executable} -X dev -m holdwire {line}"],
        capture_output=True,
        timeout=100,
        check=False,
    )

    assert (done.returncode, done.stdout[: len(out)]) == (code, out), done.stderr
    assert err in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Warning" not in done.stderr


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    talk = Conversation()
    talk.send(0, flags=SYN)
    talk.send(1, flags=RST | 16)
    return talk.write(tmp_path / "refused.pcap")


def test_pcap_tells_the_verdict_first_and_exits_1(refused: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pcap", str(refused)]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("failed: refused: ")
    assert " rst in connect" in told.out
    assert told.err == f"reading {refused}\n"


def test_pcap_as_json_holds_the_ranked_causes(refused: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pcap", "--json", str(refused)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "failed"
    assert [cause["name"] for cause in document["conclusion"]] == ["refused"]
    assert document["files"][0]["connections"][0]["ended_in"] == "connect"


def test_healthy_capture_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = Conversation()
    talk.handshake()
    talk.exchange()
    talk.close()

    assert main(["pcap", "--all", str(talk.write(tmp_path / "clean.pcap"))]) == 0
    told = capsys.readouterr().out
    assert told.startswith("ok: ")
    assert "tls_established" in told


def test_a_capture_without_a_connection_is_nothing_to_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = Conversation()
    talk.handshake()
    capture = talk.write(tmp_path / "strange.pcap")
    data = bytearray(capture.read_bytes())
    data[20:24] = (999).to_bytes(4, "little")
    capture.write_bytes(data)

    assert main(["pcap", str(capture)]) == 2
    told = capsys.readouterr().out
    assert told.startswith("unknown: there is no TCP connection")
    assert "link type 999" in told


def test_file_that_is_missing_or_no_capture_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"not a capture")

    assert main(["pcap", str(tmp_path / "missing")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert main(["pcap", str(junk)]) == 2
    assert capsys.readouterr().out.startswith("unknown: ")
