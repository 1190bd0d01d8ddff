"""An S3 server for tests, of moto, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import boto3

KEYS = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
BUCKET = "premem"


@contextmanager
def s3_server() -> Iterator[str]:
    """URL of a new server with an empty bucket; it ends with the block.

    Not a thread of this process: moto imports Flask, and vLLM, which looks into every imported module when it starts
    on a CPU, breaks on Flask's objects without a request.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, server)
        url = f"http://127.0.0.1:{port}"
        boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=KEYS["access_key_id"],
            aws_secret_access_key=KEYS["secret_access_key"],
            region_name=KEYS["region"],
        ).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"moto's server did not start: exit status {server.poll()}") from None
            time.sleep(0.05)
        else:
            return
