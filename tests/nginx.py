"""A real nginx for the tests: configured in a temporary folder, on a free port, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from holdwire.testing.certificates import self_signed
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from holdwire.testing.certificates import Identity

_CONFIGURATION = """
daemon off;
user root;
master_process on;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl {listen};
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        keepalive_requests {keepalive_requests};
        keepalive_timeout {keepalive_timeout};
        client_max_body_size 200m;
        {more}
        location / {{ return 200 "hello from nginx\\n"; }}
        location /files/ {{ root {folder}; }}
    }}
}}
"""


class Nginx:
    """A running nginx."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, identity: Identity, folder: Path) -> None:
        self.process = process
        self.port = port
        self.identity = identity
        self.folder = folder

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def reload(self) -> None:
        """Graceful: old workers finish what they have, and close their idle connections."""
        self.process.send_signal(signal.SIGHUP)


@contextlib.contextmanager
def nginx(
    folder: Path,
    *,
    keepalive_requests: int = 1000,
    keepalive_timeout: str = "75s",
    listen: str = "",
    more: str = "",
) -> Generator[Nginx]:
    """Start nginx with TLS; skips the test aloud where there is none."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light): nothing was tested against it")
    identity = self_signed("localhost", "127.0.0.1")
    (folder / "certificate.pem").write_bytes(identity.certificate)
    (folder / "key.pem").write_bytes(identity.key)
    (folder / "files").mkdir()
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder,
            port=port,
            keepalive_requests=keepalive_requests,
            keepalive_timeout=keepalive_timeout,
            listen=listen,
            more=more,
        )
    )
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, port, folder)
        yield Nginx(process, port, identity, folder)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail("nginx did not end within 10 s of SIGTERM")


def _wait_for(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert process.poll() is None, (folder / "error.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    pytest.fail("nginx did not start to listen within 10 s")
