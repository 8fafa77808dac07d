"""How fast and in how much memory captures are analysed. Run: ``python -m benchmarks.pcap [packets]``.

Two made captures: "service" (TLS connections, 64 at a time, request and answer in full segments, one in 200 repeated)
and "scan" (every packet a SYN from another port and address: the worst case for memory).
The goal is a million packets in under 15 s.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

from tests.pcap_writer import SYN, Captured, Conversation, application_data, frame, ip, pcap, tcp

__all__ = ["main"]

_AT_ONCE = 64


def service() -> Iterator[Captured]:
    """Endless TLS connections of about 190 packets."""
    number = itertools.count()
    while True:
        conversations: list[list[Captured]] = []
        for _ in range(_AT_ONCE):
            n = next(number)
            talk = Conversation(client=f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", client_port=30000 + n % 30000)
            talk.handshake()
            for turn in range(10):
                talk.send(0, application_data(200))
                body = application_data(16384 - 5)
                for at in range(0, len(body), 1448):
                    talk.send(1, body[at : at + 1448])
                    if at % 2896 == 0:
                        talk.send(0)
                if turn % 2:
                    talk.again(1, body[-400:])
            talk.close()
            conversations.append(talk.packets)
        for row in itertools.zip_longest(*conversations):
            yield from (packet for packet in row if packet is not None)


def scan() -> Iterator[Captured]:
    """Endless SYNs, no two from the same address and port."""
    for n in itertools.count():
        source = f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
        yield Captured(n / 1e4, frame(ip(source, "192.0.2.2", tcp(1024 + n % 60000, 443, n, 0, SYN))))


def write(path: Path, packets: Iterator[Captured], count: int) -> None:
    """Write ``count`` packets in pieces."""
    with path.open("wb") as file:
        file.write(pcap([]))
        while count > 0:
            piece = list(itertools.islice(packets, min(count, 20_000)))
            file.write(pcap(piece)[24:])
            count -= len(piece)


def peak_memory() -> float:
    """The most memory that this process has held, in MiB (getrusage would count its parent's before exec)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(path: Path) -> None:
    """Analyse a file and print what it took; in a process of its own, for the sake of its memory."""
    from holdwire.doctor.pcap import analyse  # noqa: PLC0415 - measured with its import

    before = peak_memory()
    start, cpu = time.perf_counter(), time.process_time()
    capture = analyse(path)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{path.stem:8} {capture.packets:>9,} packets {wall:6.2f} s (CPU {cpu:.2f} s) "
        f"{capture.packets / wall:>9,.0f} packets/s  {len(capture.connections):,} connections kept, "
        f"{capture.connections_left_out:,} left out  {peak_memory() - before:.0f} MiB above {before:.0f} MiB"
    )


def main() -> None:
    """Make both captures and analyse each."""
    if len(sys.argv) > 2:
        measure(Path(sys.argv[2]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for name, packets in (("service", service()), ("scan", scan())):
            path = Path(folder, f"{name}.pcap")
            write(path, packets, count)
            subprocess.run([sys.executable, "-m", "benchmarks.pcap", "measure", str(path)], check=True)


if __name__ == "__main__":
    main()
