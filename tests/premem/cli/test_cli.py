"""The command line as a process: what it prints where, and with which status it ends."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from premem.cli.main import app, main
from tests.premem.steered import (
    REPORT,
    Reply,
    Steered,
    dataset_of,
    detail_of,
    job_of,
    lineage_of,
    page_of,
    problem,
    scored,
)

HOUSE = Path(__file__).parents[3]
HOSTILE = "\x1b]0;owned\x07\x1b[2J4\r\u202e\x9b31m\udcff"
COMMANDS = ["score", "serve", "worker", "upload", "status", "cancel", "examples", "curate", "report", "grade"]
COMMANDS += ["recorded", "calibrate", "calibrations", "import-recorded"]


@pytest.fixture
def service() -> Iterator[Steered]:
    with Steered() as steered:
        yield steered


def premem(
    *arguments: str | Path, service: Steered | None = None, cwd: Path = HOUSE
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREMEM_")}
    if service:
        environment["PREMEM_SERVICE"] = service.url
    command = [sys.executable, "-m", "premem", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "2 + 3?", "answer": "#### 5"}\n')
    return path


# Help


def test_help_names_every_command_and_the_exit_codes():
    shown = premem("--help")

    assert shown.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in shown.stdout
    assert "Exit codes: 0" in shown.stdout


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in {"serve", "worker"}])
def test_help_of_a_command_has_an_example(command):
    shown = CliRunner().invoke(app, [command, "--help"])

    assert shown.exit_code == 0
    assert f"Example: premem {command}" in shown.stdout


# Exit codes and errors


def test_an_unreachable_service_is_one_line_and_status_3():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

        shown = premem("status", "job_1", "--service", url)

    assert shown.returncode == 3
    assert shown.stdout == ""
    assert len(shown.stderr.splitlines()) == 1
    assert url in shown.stderr
    assert "premem serve" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["status", "--nonsense"], "No such option"),
        (["status", "job_404"], "there is no"),
        (["upload", "nowhere.jsonl"], "nowhere.jsonl"),
        (["score", "nowhere.jsonl", "tests"], "nowhere.jsonl: there is no such file"),
        (["score", "pyproject.toml", "nowhere"], "nowhere: there is no such checkpoint folder"),
        (["score", "pyproject.toml", "tests", "--samples", "0"], "--samples: "),
        (["score", "pyproject.toml", "tests", "--memorized-below", "1"], "neither a perplexity above 1 nor a preset"),
        (["score", "pyproject.toml", "tests", "--template-prompt", "Q:"], "--template-prompt: must contain {question}"),
        (["score", "pyproject.toml", "tests", "--below", "-1"], "--below"),
        (["upload", "pyproject.toml", "--grader-options", "[1]"], "must be a JSON object"),
    ],
)
def test_bad_input_is_status_2(arguments, complaint, service, monkeypatch, capsys):
    monkeypatch.chdir(HOUSE)
    monkeypatch.setattr(sys, "argv", ["premem", *arguments])
    monkeypatch.delenv("PREMEM_SERVICE", raising=False)
    if arguments[0] != "score":
        monkeypatch.setenv("PREMEM_SERVICE", service.url)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_what_does_not_fit_the_state_of_a_job_is_status_1(service):
    service.on("GET /v1/jobs/job_1/examples", problem(409, "conflict", "job job_1 is running"))

    shown = premem("examples", "job_1", service=service)

    assert (shown.returncode, shown.stderr) == (1, "premem: job job_1 is running\n")


def test_bad_rows_are_listed_by_line(service, data):
    errors = [{"line": n, "field": "trace", "message": "is empty"} for n in range(1, 31)]
    service.on("POST /v1/datasets", problem(422, "rows", "45 lines cannot be taken", errors=errors, total=45))

    shown = premem("upload", data, service=service)

    assert shown.returncode == 2
    assert f"premem: {Path(data).name}: 45 lines cannot be taken" in shown.stderr
    assert "  line 20, trace: is empty" in shown.stderr
    assert "line 21" not in shown.stderr
    assert "  … and 25 more" in shown.stderr


def test_status_tells_how_fast_the_engines_were_and_what_their_caches_held(service):
    job = job_of("running", done=3)
    job.counts = job.counts.model_copy(update={"prompt_tokens": 400, "cached_tokens": 300, "engine_seconds": 0.5})
    job.tokens_per_second = 300.0
    service.on("GET /v1/jobs/job_1", Reply(job))

    shown = premem("status", "job_1", service=service)

    assert "300 tokens/s of each engine, 75% of the prompts' in its cache" in shown.stdout


def test_a_missing_key_is_explained(service):
    service.on("GET /v1/jobs/job_1", problem(401, "unauthorized", "no key was shown"))

    shown = premem("status", "job_1", service=service)

    assert shown.returncode == 1
    assert "PREMEM_API_KEY" in shown.stderr


def test_ctrl_c_ends_with_130(service):
    service.on("GET /v1/jobs/job_1", Reply(job_of("running", done=3), headers={"Retry-After": "0.05"}))
    watching = subprocess.Popen(
        [sys.executable, "-m", "premem", "status", "job_1", "--watch", "--service", service.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stderr.readline() == "scoring: 3 of 6 examples, checkpoint-5\n"
    watching.send_signal(signal.SIGINT)

    _, errors = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert "Traceback" not in errors


def test_a_reader_that_has_seen_enough_is_no_error(service):
    service.on("GET /v1/jobs/job_1/examples", Reply(page_of(*[scored(0, "why? " * 50)] * 1000)))
    command = f"{sys.executable} -m premem examples job_1 --limit 1000 --service {service.url} | head -1"

    shown = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602

    assert "Traceback" not in shown.stderr
    assert "BrokenPipe" not in shown.stderr


# Upload


def test_an_upload_is_told_with_the_lines_that_do_not_grade(service, data):
    service.on("POST /v1/datasets", Reply(dataset_of(3, ungradable_lines=(2,)), status=201))

    shown = premem(
        "upload",
        data,
        "--grader",
        "gsm8k",
        "--question",
        "q",
        "--id",
        "key",
        "--max-ungradable",
        "0.5",
        service=service,
    )

    assert shown.returncode == 0
    assert shown.stdout == "ds_1: 3 rows of train.jsonl, grader gsm8k\n"
    assert "1 of 3 references do not grade as right" in shown.stderr
    assert "  line 2: no final answer" in shown.stderr
    assert service.asked[0].query == {
        "name": "train.jsonl",
        "grader": "gsm8k",
        "question": "q",
        "id": "key",
        "max_ungradable": "0.5",
    }


# Jobs


def test_json_is_all_that_stdout_holds(service, data):
    service.on("POST /v1/datasets", Reply(dataset_of(), status=201))
    service.on("GET /v1/jobs/job_1", Reply(job_of("running", done=3), headers={"Retry-After": "0.01"}), Reply(job_of("completed", done=6)))  # fmt: skip
    service.on("POST /v1/jobs/job_1/cancel", Reply(job_of("cancelling"), status=202))
    service.on("GET /v1/jobs", Reply({"items": [job_of("queued").model_dump(mode="json")], "next_cursor": None}))
    service.on("GET /v1/jobs/job_1/examples", Reply(page_of(scored(0))))
    service.on("GET /v1/jobs/job_1/examples/10", Reply(detail_of(" 4")))
    service.on("GET /v1/jobs/job_1/report", Reply(REPORT))

    assert json.loads(premem("upload", data, "--json", service=service).stdout)["id"] == "ds_1"
    assert json.loads(premem("status", "job_1", "--watch", "--json", service=service).stdout)["state"] == "completed"
    assert json.loads(premem("status", "--json", service=service).stdout)["items"][0]["state"] == "queued"
    assert json.loads(premem("cancel", "job_1", "--json", service=service).stdout)["state"] == "cancelling"
    assert json.loads(premem("examples", "job_1", "--json", service=service).stdout)["items"][0]["row"] == 10
    assert json.loads(premem("examples", "job_1", "--row", "10", "--json", service=service).stdout)["row"] == 10
    assert json.loads(premem("report", "job_1", "--json", service=service).stdout)["job"] == "job_1"


@pytest.mark.parametrize(
    ("state", "watch", "code"),
    [("running", False, 0), ("failed", False, 1), ("cancelled", False, 0), ("cancelled", True, 1), ("failed", True, 1)],
)
def test_the_status_of_a_job_is_the_status_of_the_command(service, state, watch, code):
    service.on("GET /v1/jobs/job_1", Reply(job_of(state, done=3, errors=("checkpoint-5: no weights",))))

    shown = premem("status", "job_1", *(["--watch"] if watch else []), service=service)

    assert shown.returncode == code
    assert f"job_1: {state}" in shown.stdout
    assert "3 of 6 examples done" in shown.stdout
    assert "error: checkpoint-5: no weights" in shown.stderr


def test_a_report_is_a_plain_table_where_nobody_looks(service):
    service.on("GET /v1/jobs/job_1/report", Reply(REPORT))

    shown = premem("report", "job_1", service=service).stdout

    header, line, *rest = shown.splitlines()
    assert header.split("  ")[0].strip() == "checkpoint"
    assert line.split() == ["checkpoint-5", "3", "0.400", "25.0%", "0.300", "0.350"]
    assert "perplexity below 1.1055 (preset: the paper)" in " ".join(rest)
    assert "calibrate on several runs" in " ".join(rest)
    assert "1 x too long for the model's context" in " ".join(rest)
    assert shown.isascii()


def test_a_ranking_shows_accuracies_and_where_they_were_memorized(service):
    service.on(
        "GET /v1/jobs/job_1/examples",
        Reply(page_of(scored(0), scored(1), total=9, next_cursor="after-1")),
        Reply(page_of(scored(2), total=9, next_cursor="after-2")),
    )

    shown = premem("examples", "job_1", "--limit", "3", service=service).stdout

    assert [line.split()[:9] for line in shown.splitlines()[1:4]] == [
        ["0", "10", "0.000", "0.10", "to", "0.90", "0.500", "0.0", "0.8*"],
        ["1", "11", "0.200", "0.10", "to", "0.90", "0.500", "0.2", "0.8*"],
        ["2", "12", "0.400", "0.10", "to", "0.90", "0.500", "0.4", "0.8*"],
    ]
    assert "3 of 9" in shown


def test_the_filters_of_the_route_are_flags_and_hold_on_every_page(service):
    service.on(
        "GET /v1/jobs/job_1/examples",
        Reply(page_of(scored(0), total=9, next_cursor="after-1")),
        Reply(page_of(scored(1), total=9)),
    )
    numbers = {"above": "0.1", "below": "0.5", "interval_above": "0.05", "interval_below": "0.75"}
    numbers |= {"perplexity_above": "1.1", "perplexity_below": "2.5"}
    flags = [word for name, value in numbers.items() for word in (f"--{name.replace('_', '-')}", value)]
    flags += ["--not-memorized", "--memorized-at", "step-2", "--search", "a train"]
    flags += ["--tag", "odd", "--without-tag", "excluded"]

    shown = premem("examples", "job_1", *flags, "--sort", "perplexity", "--descending", "--limit", "2", service=service)

    assert shown.returncode == 0, shown.stderr
    asked = {
        **numbers,
        "memorized": "false",
        "memorized_at": "step-2",
        "search": "a train",
        "tag": "odd",
        "without_tag": "excluded",
        "sort": "perplexity",
        "order": "descending",
    }
    assert [each.query for each in service.asked] == [
        {**asked, "limit": "2"},
        {**asked, "limit": "1", "cursor": "after-1"},
    ]


def test_one_row_takes_no_filters(service):
    shown = premem("examples", "job_1", "--row", "3", "--below", "0.5", service=service)

    assert (shown.returncode, service.asked) == (2, [])
    assert "leave the filters" in shown.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_model_wrote_cannot_steer_the_terminal(service, as_json):
    answer = HOSTILE.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    service.on("GET /v1/jobs/job_1/examples", Reply(page_of(scored(0, answer))))
    service.on("GET /v1/jobs/job_1/examples/10", Reply(detail_of(f"first\nsecond {answer}")))

    for which in ([], ["--row", "10"]):
        shown = premem("examples", "job_1", *which, *(["--json"] if as_json else []), service=service)

        assert shown.returncode == 0, shown.stderr
        assert not set(shown.stdout) & set("\x1b\x07\r\u202e\x9b")
        assert ("\\u001b" if as_json else "\\x1b]0;owned") in shown.stdout


def test_an_error_cannot_steer_the_terminal(service):
    service.on("GET /v1/jobs/job_1", problem(409, "conflict", "\x1b[2Jgone"))

    shown = premem("status", "job_1", service=service)

    assert shown.stderr == "premem: \\x1b[2Jgone\n"


def test_a_terminal_gets_colours_and_others_do_not(service):
    service.on("GET /v1/jobs/job_1/examples/10", Reply(detail_of("4")))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "premem", "examples", "job_1", "--row", "10", "--service", service.url]
    environment = {**os.environ, "TERM": "xterm"}

    subprocess.run(command, stdout=theirs, check=True, env=environment)
    os.close(theirs)
    shown = b""
    while block := _read(ours):
        shown += block

    assert b"\x1b[31m" in shown
    assert b"  wrong (4)" in shown
    assert "\x1b" not in premem("examples", "job_1", "--row", "10", service=service).stdout


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


# Curated rows


@pytest.mark.parametrize(
    ("arguments", "file", "format_"),
    [
        ([], "curated.jsonl", "jsonl"),
        (["-o", "low.parquet"], "low.parquet", "parquet"),
        (["--format", "parquet"], "curated.parquet", "parquet"),
    ],
)
def test_curated_rows_are_written_to_a_file(service, tmp_path, arguments, file, format_):
    service.on("GET /v1/jobs/job_1/curated", Reply(b'{"q": 1}\n', headers={"X-Premem-Rows": "1"}))
    service.on("GET /v1/jobs/job_1/curated/lineage", Reply(lineage_of(below=0.3)))

    shown = premem("curate", "job_1", "--below", "0.3", "--budget", "7", *arguments, service=service, cwd=tmp_path)

    assert shown.returncode == 0
    assert (tmp_path / file).read_bytes() == b'{"q": 1}\n'
    asked = {"policy": "lowest", "below": "0.3", "above": "0.0", "budget": "7", "seed": "0", "group": "chosen"}
    assert service.asked[0].query == {**asked, "format": format_}
    told = json.loads((tmp_path / f"{file}.lineage.json").read_text())
    assert (told["below"], told["job"]) == (0.3, "job_1")
    assert f"1 rows written to {file}" in shown.stderr


def test_curated_rows_go_through_a_pipe(service):
    service.on("GET /v1/jobs/job_1/curated", Reply(b'{"q": 1}\n', headers={"X-Premem-Rows": "1"}))

    assert premem("curate", "job_1", "-o", "-", service=service).stdout == '{"q": 1}\n'


# Scoring with a service


def test_a_run_is_scored_and_written_beside_its_data(service, data, tmp_path):
    for step in (112, 28):
        (tmp_path / f"checkpoint-{step}").mkdir()
    service.on("POST /v1/datasets", Reply(dataset_of(), status=201))
    service.on("POST /v1/jobs", Reply(job_of("queued"), status=202))
    service.on("GET /v1/jobs/job_1", Reply(job_of("running", done=3), headers={"Retry-After": "0.01"}), Reply(job_of("completed", done=6)))  # fmt: skip
    service.on("GET /v1/jobs/job_1/report", Reply(REPORT))
    service.on("GET /v1/jobs/job_1/examples", Reply(page_of(scored(0), scored(1))))
    service.on("GET /v1/jobs/job_1/curated", Reply(b'{"q": 1}\n', headers={"X-Premem-Rows": "1"}))
    service.on("GET /v1/jobs/job_1/curated/lineage", Reply(lineage_of(below=0.5)))

    shown = premem(
        *("score", data, tmp_path / "checkpoint-112", tmp_path / "checkpoint-28", "--test", data, "--samples", "3"),
        *("--memorized-below", "gsm8k-llama3", "--template-prompt", r"Q: {question}\nA:", "--stop", r"\n\n"),
        service=service,
    )

    assert shown.returncode == 0, shown.stderr
    assert "checkpoints in the order of their steps: checkpoint-28, checkpoint-112" in shown.stderr
    assert "scoring: 6 of 6 examples" in shown.stderr
    assert "checkpoint-5" in shown.stdout
    asked = json.loads(next(one.body for one in service.asked if one.path == "/v1/jobs" and one.method == "POST"))
    assert asked["dataset"] == asked["test_dataset"] == "ds_1"
    assert [one["path"] for one in asked["checkpoints"]] == [
        str(tmp_path / "checkpoint-28"),
        str(tmp_path / "checkpoint-112"),
    ]
    assert asked["sampling"]["samples"] == 3
    assert asked["sampling"]["stop"] == ["\n\n"]
    assert asked["template"]["prompt"] == "Q: {question}\nA:"
    assert asked["memorized_below"] == "gsm8k-llama3"
    scores = [json.loads(line) for line in (tmp_path / "train.scores.jsonl").read_text().splitlines()]
    assert [score["row"] for score in scores] == [10, 11]
    assert (tmp_path / "train.curated.jsonl").read_bytes() == b'{"q": 1}\n'
    assert json.loads((tmp_path / "train.curated.jsonl.lineage.json").read_text())["below"] == 0.5
    assert json.loads((tmp_path / "train.report.json").read_text())["job"] == "job_1"


def test_a_job_that_fails_writes_nothing_and_says_why(service, data, tmp_path):
    service.on("POST /v1/datasets", Reply(dataset_of(), status=201))
    service.on("POST /v1/jobs", Reply(job_of("queued"), status=202))
    service.on("GET /v1/jobs/job_1", Reply(job_of("failed", errors=("checkpoint-5: no weights",))))

    shown = premem("score", data, "/runs/checkpoint-5", "--out", tmp_path / "results", service=service)

    assert shown.returncode == 1
    assert "error: checkpoint-5: no weights" in shown.stderr
    assert list((tmp_path / "results").iterdir()) == []


def test_a_data_set_that_the_service_has_is_named_by_its_id(service, tmp_path):
    service.on("GET /v1/datasets/ds_1", Reply(dataset_of()))
    service.on("POST /v1/jobs", Reply(job_of("queued"), status=202))
    service.on("GET /v1/jobs/job_1", Reply(job_of("completed", done=6)))
    service.on("GET /v1/jobs/job_1/report", Reply(REPORT))
    service.on("GET /v1/jobs/job_1/examples", Reply(page_of(scored(0))))
    service.on("GET /v1/jobs/job_1/curated/lineage", Reply(lineage_of(below=0.5)))
    service.on("GET /v1/jobs/job_1/curated", Reply(b"", headers={"X-Premem-Rows": "0"}))

    shown = premem(
        "score", "ds_1", "/runs/checkpoint-5", "--json", "--format", "parquet", service=service, cwd=tmp_path
    )

    answer = json.loads(shown.stdout)
    assert answer["files"]["scores"] == "ds_1.scores.parquet"
    assert answer["curated_rows"] == 0
    assert answer["report"]["checkpoints"][0]["memorized"] == 0.25
    assert (tmp_path / "ds_1.scores.parquet").read_bytes()[:4] == b"PAR1"


def test_progress_is_no_more_than_a_line_every_two_seconds(service):
    polls = [Reply(job_of("running", done=1), headers={"Retry-After": "0.05"})] * 20
    service.on("GET /v1/jobs/job_1", *polls, Reply(job_of("completed", done=6)))
    began = time.monotonic()

    shown = premem("status", "job_1", "--watch", service=service)

    took = time.monotonic() - began
    assert len(shown.stderr.splitlines()) <= 2 + took / 2
