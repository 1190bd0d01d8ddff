"""Grading processes: hostile answers, killed children, and graders of somebody else's."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from premem.errors import GraderError, Interrupted
from premem.grading import get_grader, grader_names
from premem.grading.pool import GradingPool, grade_all
from premem.records import Grade
from premem.wire.bodies import GraderChoice

HOSTILE = [
    "9^{9^9}",
    r"\boxed{9^{9^9}}",
    r"\boxed{" + "{" * 100_000 + "}" * 100_000 + "}",
    "{" * 100_000,
    "#### " + "9" * 1_000_000,
    "####" * 250_000,
]

SOMEBODY_S_GRADERS = '''
import os, pathlib, time
from premem.records import Grade


class Strange:
    """Does what the answer says."""

    name = "strange"
    version = "7"
    unbounded = True

    def __init__(self, folder="."):
        self.folder = pathlib.Path(folder)

    def grade(self, reference, answer):
        if answer == "hang":
            (self.folder / "hanging").write_text(str(os.getpid()))
            while True:
                time.sleep(60)
        if answer == "die":
            os.kill(os.getpid(), 9)
        if answer == "die once":
            if not (self.folder / "died").exists():
                (self.folder / "died").touch()
                os.kill(os.getpid(), 9)
        if answer == "eat":
            bytearray(100 << 30)
        if answer == "recurse":
            return self.grade(reference, answer)
        if answer == "raise":
            raise KeyError("a bug")
        if answer == "who":
            return Grade("right", f"{os.getpid()} {os.getppid()}")
        if answer == "where":
            return Grade("right", repr(os.environ.get("CUDA_VISIBLE_DEVICES")))
        return Grade("right" if answer == reference else "wrong", answer)


class Harmless:
    name = "harmless"
    version = "1"
    unbounded = False

    def grade(self, reference, answer):
        return Grade("right", str(os.getpid()))


nothing = None
half = type("Half", (), {"name": "half"})
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Somebody's package of graders, installed as pip does it."""
    (tmp_path / "strange_graders.py").write_text(SOMEBODY_S_GRADERS)
    (tmp_path / "strange_graders-1.dist-info").mkdir()
    (tmp_path / "strange_graders-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1\n")
    (tmp_path / "strange_graders-1.dist-info/entry_points.txt").write_text(
        "[premem.graders]\nstrange = strange_graders:Strange\nharmless = strange_graders:Harmless\n"
        "absent = no_such_module:Grader\nnothing = strange_graders:nothing\nhalf = strange_graders:half\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("strange_graders", None)


def strange(folder, *, answer_seconds=30.0, processes=1, **options):
    choice = GraderChoice(name="strange", options={"folder": str(folder)}, answer_seconds=answer_seconds)
    return GradingPool(choice, processes=processes, **options)


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_(condition, *, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)


# What hangs


def test_hostile_answers_time_out_and_the_others_are_graded():
    with GradingPool(GraderChoice(name="math", answer_seconds=2.0), processes=2) as pool:
        hostile = [pool.submit(r"\boxed{x+1}", answer) for answer in HOSTILE]
        others = [pool.submit(r"\boxed{x+1}", rf"\boxed{{{n}-{n - 1}+x}}") for n in range(2, 12)]

        assert {future.result(timeout=60).verdict for future in others} == {"right"}
        assert [future.result(timeout=60).verdict for future in hostile[:2]] == ["timeout", "timeout"]
        assert {future.result(timeout=60).verdict for future in hostile} <= {"timeout", "no_answer", "wrong"}


def test_hostile_answer_holds_up_the_next_one_only_for_its_time_limit():
    with GradingPool(GraderChoice(name="math", answer_seconds=1.0), processes=1) as pool:
        assert pool.submit(r"\boxed{x+1}", r"\boxed{1+x}").result(timeout=60).verdict == "right"
        started = time.monotonic()
        pool.submit("7", "9^{9^9}")
        pool.submit("7", "9^{9^9}+1")

        assert pool.submit(r"\boxed{x+1}", r"\boxed{1+x}").result(timeout=60).verdict == "right"
        assert 2.0 <= time.monotonic() - started < 20.0  # a busy machine is slow to do what takes milliseconds


def test_number_is_graded_while_everything_else_hangs():
    with GradingPool(GraderChoice(name="math", answer_seconds=300.0), processes=1) as pool:
        pool.submit("7", "9^{9^9}")

        assert pool.submit("7", r"\boxed{7.0}").done()


@pytest.mark.parametrize("answer", [*HOSTILE, "12," * 300_000, "1/" * 300_000, "1 " * 300_000, "answer is " * 100_000])
@pytest.mark.parametrize("name", ["gsm8k", "authors", "choice", "exact"])
def test_bounded_grader_takes_a_hostile_text_in_linear_time(name, answer):
    # A quadratic search would take hours on these.
    with GradingPool(GraderChoice(name=name), processes=1) as pool:
        assert pool.submit("#### 72 (B)", answer).done()


def test_pattern_that_backtracks_forever_times_out():
    choice = GraderChoice(name="regex", options={"pattern": "^((?:a+)+)$"}, answer_seconds=0.5)

    grades = list(grade_all([("a", "a"), ("a", "a" * 64 + "b"), ("a", "a")], choice, 1))

    assert grades == [Grade("right", "a"), Grade("timeout"), Grade("right", "a")]


# What dies


def test_answer_whose_process_is_killed_is_tried_once_more(installed):
    with strange(installed) as pool:
        assert pool.submit("die once", "die once").result(timeout=60) == Grade("right", "die once")


def test_answer_that_kills_its_process_twice_counts_as_timeout(installed, caplog):
    with strange(installed) as pool:
        assert pool.submit("", "die").result(timeout=60) == Grade("timeout")
        assert pool.submit("a", "a").result(timeout=60).verdict == "right"
    assert "a grading process died again on the same answer: timeout" in caplog.text


def test_killing_the_forge_loses_no_answer(installed):
    with strange(installed) as pool:
        process, forge = map(int, pool.submit("", "who").result(timeout=60).extracted.split())
        os.kill(forge, signal.SIGKILL)
        await_(lambda: not is_alive(process))

        assert pool.submit("a", "a").result(timeout=60).verdict == "right"


@pytest.mark.parametrize("answer", ["eat", "recurse"])
def test_answer_that_exhausts_memory_or_stack_counts_as_timeout(installed, answer):
    with strange(installed, memory_bytes=1 << 28) as pool:
        assert pool.submit("", answer).result(timeout=60) == Grade("timeout")
        assert pool.submit("a", "a").result(timeout=60).verdict == "right"


def test_killed_process_is_gone(installed):
    with strange(installed, answer_seconds=0.5) as pool:
        assert pool.submit("", "hang").result(timeout=60) == Grade("timeout")
        hanging = int((installed / "hanging").read_text())

        assert not is_alive(hanging)


def test_killed_process_is_replaced_without_loading_the_grader_again(installed):
    with strange(installed, answer_seconds=0.5) as pool:
        before, forge = pool.submit("", "who").result(timeout=60).extracted.split()
        pool.submit("", "hang").result(timeout=60)
        after, same_forge = pool.submit("", "who").result(timeout=60).extracted.split()

        assert before != after
        assert forge == same_forge


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is noticed in /proc, and signalled, on Linux")
def test_processes_die_with_a_parent_that_is_killed(installed):
    script = (
        "from premem.grading.pool import GradingPool; from premem.wire.bodies import GraderChoice\n"
        f"choice = GraderChoice(name='strange', options={{'folder': {str(installed)!r}}}, answer_seconds=300)\n"
        "GradingPool(choice, processes=1).submit('', 'hang').result()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment)
    hanging = installed / "hanging"
    await_(lambda: hanging.exists() and hanging.read_text())
    process = int(hanging.read_text())
    assert is_alive(process)

    parent.kill()
    parent.wait()

    await_(lambda: not is_alive(process))


# What is stopped


def test_closing_the_pool_ends_what_is_running(installed):
    pool = strange(installed, answer_seconds=300.0)
    running, waiting = pool.submit("", "hang"), pool.submit("", "a")
    await_((installed / "hanging").exists)

    pool.close()

    with pytest.raises(Interrupted):
        running.result(timeout=0)
    with pytest.raises(CancelledError):
        waiting.result(timeout=0)
    with pytest.raises(Interrupted):
        pool.submit("", "a")


def test_cancelled_answer_is_not_graded(installed):
    with strange(installed, answer_seconds=1.0) as pool:
        pool.submit("", "hang")
        cancelled = pool.submit("", "die once")
        assert cancelled.cancel()

        assert pool.submit("a", "a").result(timeout=60).verdict == "right"
    assert not (installed / "died").exists()


def test_grades_come_in_order_and_few_pairs_are_read_ahead():
    read = []

    def pairs():
        for n in range(1000):
            read.append(n)
            yield str(n % 3), "n=1"

    grades = grade_all(pairs(), GraderChoice(name="regex", options={"pattern": "n=([0-9]+)"}), 2)
    first = [next(grades).verdict for _ in range(6)]
    grades.close()

    assert first == ["wrong", "right", "wrong"] * 2
    assert len(read) < 30


# Somebody else's graders


def test_installed_grader_is_known_by_its_entry_point(installed):
    assert "strange" in grader_names()
    assert get_grader(GraderChoice(name="strange")).version == "7"


def test_bounded_grader_stays_in_the_caller_s_process(installed):
    with GradingPool(GraderChoice(name="harmless"), processes=1) as pool:
        assert pool.submit("", "").result(timeout=0).extracted == str(os.getpid())


def test_grading_processes_see_no_accelerator(installed, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    with strange(installed) as pool:
        assert pool.submit("", "where").result(timeout=60).extracted == "''"


def test_bug_in_a_grader_is_told_and_ends_nothing(installed):
    with strange(installed) as pool:
        with pytest.raises(GraderError, match="grader 'strange' failed on an answer: KeyError"):
            pool.submit("", "raise").result(timeout=60)

        assert pool.submit("a", "a").result(timeout=60).verdict == "right"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("absent", {}, "grader 'absent' cannot be loaded from no_such_module:Grader"),
        ("nothing", {}, "is no class or function that makes a grader"),
        ("half", {}, "Half lacks a part of premem.grading.Grader"),
        ("strange", {"speed": 1}, "does not take these options: .*speed"),
        ("unheard-of", {}, "no grader is named 'unheard-of'; there are absent, authors, choice"),
    ],
)
def test_grader_that_cannot_be_used_says_why(installed, name, options, message):
    with pytest.raises(GraderError, match=message):
        GradingPool(GraderChoice(name=name, options=options), processes=1)
