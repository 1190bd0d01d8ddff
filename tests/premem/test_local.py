"""A private service as real processes: up when it is asked for, gone when it is not, and never somebody else's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from premem.errors import InputError, ServiceError
from premem.local import RESTARTS, LocalService

HOUSE = Path(__file__).parents[2]


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).is_success
    except httpx.TransportError:
        return False


def came_true(condition: Callable[[], bool], *, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_a_private_service_is_up_inside_and_gone_outside(tmp_path, monkeypatch):
    # Neither a folder where the user stands nor settings for another service are taken for its own.
    (tmp_path / "premem_service").mkdir()
    (tmp_path / "premem_service" / "__main__.py").write_text("raise SystemExit('somebody else')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREMEM_DATABASE_URL", "postgresql://nobody@nowhere.invalid/production")
    monkeypatch.setenv("PREMEM_API_KEY", "pmk_other_key")

    with LocalService(tmp_path / "kept", checkpoint_roots=[], workers=0) as local:
        assert answers(local.url)
        local.check()
        with pytest.raises(InputError, match=rf"is in use by another premem process \(pid {os.getpid()}\)"):
            LocalService(tmp_path / "kept", checkpoint_roots=[], workers=0)
        url = local.url

    assert not answers(url)
    assert (tmp_path / "kept" / "premem.db").exists()


def test_a_service_that_does_not_come_up_shows_why(tmp_path):
    (tmp_path / "premem.db").write_text("no database at all, but long enough for a header to be looked for in it")

    with pytest.raises(ServiceError, match=r"(?s)service ended with status \d.*service\.log ends:\n.*database"):
        LocalService(tmp_path, checkpoint_roots=[], workers=0)


def test_a_service_that_was_killed_is_noticed(tmp_path):
    with LocalService(tmp_path, checkpoint_roots=[], workers=0) as local:
        local._children[0].process.kill()
        local._children[0].process.wait()

        with pytest.raises(ServiceError, match="service was ended by SIGKILL"):
            local.check()


def test_a_worker_that_ended_with_its_engine_is_started_again_but_not_forever(tmp_path):
    hangs = "import pathlib; pathlib.Path('starts').open('a').write('x'); print('it hung'); raise SystemExit(75)"
    with LocalService(tmp_path, checkpoint_roots=[], workers=0) as local:
        worker = local._start("worker-1", ["-c", hangs.replace("starts", str(tmp_path / "starts"))], {})
        for restart in range(RESTARTS):
            worker.process.wait()
            local.check()
            assert worker.restarts == restart + 1
        worker.process.wait()

        with pytest.raises(ServiceError, match=r"(?s)worker-1 ended with status 75; .*it hung"):
            local.check()
    assert (tmp_path / "starts").read_text() == "x" * (RESTARTS + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_service_does_not_outlive_whoever_started_it(tmp_path):
    script = """
import sys, time
from pathlib import Path
from premem.local import LocalService
print(LocalService(Path(sys.argv[1]), checkpoint_roots=[], workers=0).url, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True, cwd=HOUSE)
    url = parent.stdout.readline().strip()
    assert answers(url)

    parent.send_signal(signal.SIGKILL)
    parent.communicate()

    assert came_true(lambda: not answers(url))
