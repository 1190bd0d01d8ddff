"""The three wheels in an environment of their own, away from the checkout: the demo's steps with the command `premem`.

Only with --installed: it builds, asks a package index and finetunes, which takes minutes.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from lab.demo import LEARNING_RATE, MEMORIZED_BELOW
from lab.questions import training_rows, twin_rows, write_jsonl

HOUSE = Path(__file__).parents[2]
EXAMPLES, EPOCHS, EVERY = 40, 4, 2
SECONDS = 600


@pytest.fixture(scope="module", autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--installed"):
        pytest.skip("takes minutes and a package index: pytest --installed")


def uv(*arguments: str | Path) -> None:
    environment = dict(os.environ)
    if Path(environment.get("PIP_FIND_LINKS", "/nowhere")).is_dir():
        environment["UV_FIND_LINKS"] = environment["PIP_FIND_LINKS"]
    elif "+cpu" in version("torch"):
        environment["UV_TORCH_BACKEND"] = "cpu"
    subprocess.run([sys.executable, "-m", "uv", *map(str, arguments)], check=True, env=environment, timeout=SECONDS)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """By the name of their package, each built from its own sdist."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in (".", "service", "worker"):
        uv("build", "--quiet", "--out-dir", folder, HOUSE / project)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def premem(wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed from all three."""
    folder = tmp_path_factory.mktemp("environment")
    uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    pins = ["--constraint", HOUSE / "constraints.txt", "--override", HOUSE / "overrides.txt"]
    python = ["--python", folder / "venv" / "bin" / "python"]
    uv("pip", "install", "--quiet", *python, *pins, f"torch=={version('torch')}", *wheels.values())
    return folder / "venv" / "bin" / "premem"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.jsonl, test.jsonl and the checkpoints of a run, made by the lab, which is in no wheel."""
    folder = tmp_path_factory.mktemp("run")
    rows = training_rows(EXAMPLES, seed=0)
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "test.jsonl", twin_rows(rows, twins=1, seed=0))
    command = [sys.executable, "-m", "lab.finetune", "--data", folder / "train.jsonl", "--out", folder / "run"]
    command += ["--epochs", str(EPOCHS), "--every", str(EVERY), "--lr", str(LEARNING_RATE)]
    subprocess.run(command, cwd=HOUSE, check=True, timeout=SECONDS)
    return folder


def outside() -> dict[str, str]:
    """Nothing of the checkout is found by chance."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREMEM_", "PYTHONPATH"))}
    return {**kept, "OMP_NUM_THREADS": "1"}


def said(premem: Path, *arguments: str | Path, cwd: Path, service: str | None = None) -> str:
    command = [premem, *map(str, arguments), *(["--service", service] if service else [])]
    shown = subprocess.run(
        command, cwd=cwd, env=outside(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@contextmanager
def serving(premem: Path, data: Path) -> Iterator[str]:
    command = [premem, "serve", "--data-dir", data, "--port", "0"]
    service = subprocess.Popen(command, cwd=data.parent, env=outside(), stdout=subprocess.PIPE, text=True)
    try:
        yield next(found[1] for line in service.stdout if (found := re.match(r"premem listens on (\S+)", line)))
    finally:
        service.terminate()
        service.communicate(timeout=30)


def test_each_wheel_holds_one_package_with_its_licence_and_what_it_needs(wheels):
    held = {name: set(zipfile.ZipFile(path).namelist()) for name, path in wheels.items()}

    assert set(held) == {"premem", "premem_service", "premem_worker"}
    for name, files in held.items():
        told = {file.partition("/")[0] for file in files}
        assert {top for top in told if not top.endswith(".dist-info")} == {name}
        assert any(file.endswith(".dist-info/licenses/LICENSE") for file in files)
    migrations = {f"premem_service/{path.relative_to(HOUSE)}" for path in (HOUSE / "migrations").rglob("*.py")}
    assert migrations <= held["premem_service"]
    web = HOUSE / "service" / "premem_service" / "web"
    page = {f"premem_service/web/{path.relative_to(web)}" for path in web.rglob("*.*") if path.suffix != ".pyc"}
    assert page <= held["premem_service"]


@pytest.mark.timeout(4 * SECONDS)
def test_a_run_is_scored_looked_at_and_curated_away_from_the_checkout(premem, run, tmp_path):
    score = ["score", run / "train.jsonl", *sorted((run / "run").glob("checkpoint-*")), "--test", run / "test.jsonl"]
    score += ["--grader", "gsm8k", "--samples", "2", "--max-tokens", "48", "--memorized-below", str(MEMORIZED_BELOW)]

    scored = json.loads(said(premem, *score, "--engine", "transformers", "--out", tmp_path, "--json", cwd=tmp_path))

    job = scored["job"]["id"]
    assert [line["checkpoint"] for line in scored["report"]["checkpoints"]] == [
        path.name for path in sorted((run / "run").glob("checkpoint-*"))
    ]
    assert len((tmp_path / "train.scores.jsonl").read_text().splitlines()) == EXAMPLES
    with serving(premem, tmp_path / "train.premem") as url:
        said(premem, "report", job, "--html", tmp_path / "report.html", cwd=tmp_path, service=url)
        assert job in (tmp_path / "report.html").read_text()
        assert f"5 of {EXAMPLES}" in said(premem, "examples", job, "--limit", "5", cwd=tmp_path, service=url)
        said(premem, "curate", job, "--budget", "3", "-o", tmp_path / "low.parquet", cwd=tmp_path, service=url)
        assert (tmp_path / "low.parquet").read_bytes()[:4] == b"PAR1"
        page = httpx.get(url, trust_env=False, follow_redirects=True)
        assert page.status_code == 200
        assert "app.js" in page.text
