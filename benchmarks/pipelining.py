"""What leasing ahead and handing in meanwhile are worth: a whole worker beside one that does one thing after the other.

    python -m benchmarks.pipelining [--engine vllm] [--rows 128] [--shard-rows 16] [--away 0 50] [--trajectory everything]

A real service in a process of its own; in this one a worker with one engine, which stays loaded, so that only passes
and what lies between them count. The same job is made for both in turns, and both draw the same tokens. `--away` puts
the service so many milliseconds (there and back) away, as in another data centre. Of vLLM the steps are counted too: on a
GPU one takes about the same time however few answers it draws, and a task that begins beside the last answers of the
one before saves those that would be nearly empty.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import structlog

from lab.questions import training_rows, write_jsonl
from premem import Client
from premem.local import LocalService
from premem.wire.jobs import Checkpoint, JobRequest, Sampling
from premem_worker.engines.choose import EngineName, engine_name, make_engine
from premem_worker.lifetime.shutdown import Shutdown
from premem_worker.loop import Worker
from premem_worker.parts import Parts, real_parts
from premem_worker.settings import Settings

ROUNDS = 3
HOUSE = Path(__file__).parents[1]
SAMPLING = Sampling(samples=5, temperature=0.8, top_p=0.95, max_tokens=96)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("auto", "vllm", "transformers"), default="auto")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--shard-rows", type=int, default=16)
    parser.add_argument("--away", type=int, nargs="+", default=[0, 50], help="Milliseconds.")
    parser.add_argument("--trajectory", choices=("final", "full", "everything"), default="everything")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"
    )
    print(
        f"{arguments.engine}, {arguments.rows} rows × {SAMPLING.samples} answers in tasks of {arguments.shard_rows} rows, {arguments.trajectory}"
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalService(Path(folder) / "service", checkpoint_roots=[], workers=0) as local,
        Client(local.url) as client,
    ):
        data = Path(folder) / "train.jsonl"
        write_jsonl(data, training_rows(arguments.rows, seed=5))
        request = JobRequest(
            dataset=client.upload(data).id,
            checkpoints=[Checkpoint(path=str(HOUSE / "lab/base"))],
            sampling=SAMPLING,
            memorized_below=1.1,
            trajectory=arguments.trajectory,
            shard_rows=arguments.shard_rows,
        )
        parts = lasting(arguments.engine)
        rate(client, request, parts, local.url, lease_ahead=True)  # loads the model, and compiles what is compiled
        for milliseconds in arguments.away:
            with distant(local.url, seconds=milliseconds / 1000) as url:
                ahead, after = [], []
                for _ in range(ROUNDS):
                    with steps_of(parts) as together:
                        ahead.append(rate(client, request, parts, url, lease_ahead=True))
                    with steps_of(parts) as apart:
                        after.append(rate(client, request, parts, url, lease_ahead=False))
            one, other = statistics.median(ahead), statistics.median(after)
            print(
                f"service {milliseconds} ms away: {one:,.0f} tokens/s leasing ahead, {other:,.0f} without: "
                f"{one / other:.2f} times (medians of {ROUNDS})"
            )
            if together:
                print(
                    f"  {len(together):,} steps of vLLM, {len(apart):,} without: {len(apart) / len(together):.2f} times"
                )


def lasting(engine: Literal["auto"] | EngineName) -> Parts:
    """A worker's own parts, but one engine for all workers."""
    settings = Settings(engine=engine, checkpoint_roots=[HOUSE / "lab"])
    made = make_engine(engine_name(engine))
    return replace(real_parts(settings), make_engine=lambda: made)


@contextmanager
def steps_of(parts: Parts) -> Iterator[list[None]]:
    """One for each step that vLLM takes in here; none of another engine."""
    taken: list[None] = []
    llm = getattr(parts.make_engine() if parts.make_engine else None, "_llm", None)
    if llm is None:
        yield taken
        return
    step = llm.step

    def counted() -> object:
        taken.append(None)
        return step()

    llm.step = counted
    yield taken
    llm.step = step


def rate(client: Client, request: JobRequest, parts: Parts, url: str, *, lease_ahead: bool) -> float:
    """Tokens per second of one worker, from its first lease until its last result was taken."""
    job = client.create_job(request).id
    settings = Settings(service=url, name="w", exit_when_idle=0.0, graders=1, lease_ahead=lease_ahead)
    start = time.perf_counter()
    Worker(settings, parts, shutdown=Shutdown()).run()
    seconds = time.perf_counter() - start
    return client.wait(job, timeout=60).counts.tokens / seconds


@contextmanager
def distant(url: str, *, seconds: float) -> Iterator[str]:
    """The same service at another port, `seconds` away there and back."""
    if not seconds:
        yield url
        return
    port = int(url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, port, seconds / 2), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, port: int, seconds: float) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.create_connection(("127.0.0.1", port))
        for one, other in ((near, far), (far, near)):
            other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_forward, args=(one, other, seconds), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket, seconds: float) -> None:
    try:
        while content := source.recv(1 << 22):
            time.sleep(seconds)
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other end has hung up


if __name__ == "__main__":
    main()
