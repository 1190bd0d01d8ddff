"""How fast a data set is uploaded, and how much memory the service takes for it.

A real service in a process of its own gets rows that are made on the fly, as one raw stream of JSON Lines; it checks
each, grades its reference and stores it. Beside it stands what `json.loads` alone takes for the same lines in this
process. Run from the repository: `python benchmarks/upload.py [--rows 1000000] [--grader gsm8k]`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROWS_PER_CHUNK = 1_000
MOST_MEMORY_MB = 400
READY_SECONDS = 300
"""A service takes seconds to start, and a minute on a busy machine."""
WORDS = ["clips", "friends", "April", "eggs", "market", "ducks", "bakery", "train", "half", "twice", "sold", "bought"]
SENTENCES = 997
"""A prime: sentences and numbers go together differently in every row."""


def chunks(rows: int) -> Iterator[bytes]:
    """The rows as lines, the same ones at every call; about 340 bytes each, as in GSM8K."""
    chance = random.Random(0)
    sentences = [" ".join(chance.choices(WORDS, k=14)) for _ in range(SENTENCES)]
    for start in range(0, rows, ROWS_PER_CHUNK):
        numbers = range(start, min(rows, start + ROWS_PER_CHUNK))
        yield "".join([line(number, sentences[number % SENTENCES]) for number in numbers]).encode()


def line(number: int, sentence: str) -> str:
    more = number * 7919 % 1000
    return (
        f'{{"question": "In {sentence} there are {number} and {more} more. How many is that?", '
        f'"answer": "We look at {sentence}.\\nFirst there are {number}.\\n'
        f'{number} + {more} = <<{number}+{more}={number + more}>>{number + more}\\n#### {number + more}", '
        f'"source": {more}}}\n'
    )


def seconds_of_json_loads(rows: int) -> tuple[float, int]:
    """Of processor time; and the bytes that they are."""
    seconds, size = 0.0, 0
    for chunk in chunks(rows):
        lines = chunk.splitlines()
        start = time.process_time()
        for row in lines:
            json.loads(row)
        seconds += time.process_time() - start
        size += len(chunk)
    return seconds, size


def upload(port: int, rows: int, grader: str) -> float:
    """Seconds from the first byte to the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    start = time.perf_counter()
    connection.request(
        "POST",
        f"/v1/datasets?name=benchmark&grader={grader}",
        body=chunks(rows),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked", "Content-Type": "application/jsonl"},
    )
    response = connection.getresponse()
    dataset = json.loads(response.read())
    seconds = time.perf_counter() - start
    assert response.status == 201, dataset
    assert (dataset["rows"], dataset["ungradable"]) == (rows, 0), dataset
    connection.close()
    return seconds


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_ready(service: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise SystemExit(f"the service ended with {service.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"the service was not ready within {READY_SECONDS} seconds")


def peak_mb(pid: int) -> float:
    """Of resident memory, since the process began."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(row.split()[1] for row in status.splitlines() if row.startswith("VmHWM"))
    return int(kilobytes) / 1024


def processor_seconds(pid: int) -> float:
    """That the process has used so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((row.split(":")[1].strip() for row in info.read_text().splitlines() if "model name" in row), cpu)
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--grader", default="gsm8k")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [sys.executable, "-m", "premem_service", "--data-dir", folder, "--port", str(port)]
        repository = Path(__file__).parents[1]
        with (Path(folder) / "log").open("wb") as log:
            service = subprocess.Popen(command, cwd=repository, stdout=log, stderr=log)
        try:
            wait_until_ready(service, port)
            idle, before = peak_mb(service.pid), processor_seconds(service.pid)
            seconds = upload(port, arguments.rows, arguments.grader)
            busy = processor_seconds(service.pid) - before
            peak = peak_mb(service.pid)
        finally:
            service.terminate()
            service.wait(timeout=30)
    alone, size = seconds_of_json_loads(arguments.rows)
    packages = ("fastapi", "uvicorn", "pydantic-core", "pyarrow")
    print(f"{datetime.now(UTC):%Y-%m-%d} · {machine()} · Python {platform.python_version()}, ", end="")
    print(", ".join(f"{package} {version(package)}" for package in packages))
    print(f"uploaded             {arguments.rows:,} rows, {size / 1e6:,.0f} MB, grader {arguments.grader}")
    print(f"service              {seconds:.1f} s, {arguments.rows / seconds:,.0f} rows/s")
    print(
        f"processor time       {busy:.1f} s in the service, {alone:.1f} s for json.loads alone: {busy / alone:.2f} times"
    )
    print(f"load                 {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, this script's own included")
    print(f"peak memory          {peak:.0f} MB ({idle:.0f} MB before the upload), at most {MOST_MEMORY_MB} MB wanted")
    return 0 if peak < MOST_MEMORY_MB else 1


if __name__ == "__main__":
    sys.exit(main())
