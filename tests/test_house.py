"""The rules of the house that a machine can hold."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from premem_service.settings import Settings as ServiceSettings
from premem_worker.settings import Settings as WorkerSettings

HOUSE = Path(__file__).parents[1]
TRACKED = subprocess.run(
    ["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, text=True, check=False
).stdout.split("\0")[:-1]
TEXTS = [
    name
    for name in TRACKED
    if Path(name).suffix in {".py", ".md", ".toml", ".txt", ".yml", ".sh", ".ini", ".js", ".html", ".css", ".json"}
]


def test_importing_premem_loads_no_engine_and_no_server():
    heavy = ("torch", "vllm", "transformers", "fastapi", "sqlalchemy", "uvicorn")
    script = f"import sys, premem, premem.cli; print(*[name for name in {heavy!r} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", script], cwd=HOUSE, capture_output=True, text=True, check=True)

    assert loaded.stdout.split() == []


def test_no_module_grows_past_five_hundred_lines():
    long = {
        name: lines
        for name in TRACKED
        if name.endswith(".py") and (lines := len((HOUSE / name).read_text().splitlines())) > 500
    }

    assert long == {}


@pytest.mark.parametrize(
    "pattern", [r"/work/\w", r"\bpypi\.org/simple", r"files\.pythonhosted", r"registry\.npmjs", r"download\.pytorch"]
)
def test_no_file_names_a_registry_or_somebodys_machine(pattern):
    naming = [
        name for name in TEXTS if name != "tests/test_house.py" and re.search(pattern, (HOUSE / name).read_text())
    ]

    assert naming == []


def test_constraints_are_plain_pins():
    pins = (HOUSE / "constraints.txt").read_text().split()

    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._!]+", pin) for pin in pins)


def test_links_in_the_docs_lead_somewhere():
    made = [HOUSE / "docs" / "reference" / "openapi.md"]  # by `make docs`, out of the service itself
    missing = []
    for name in TRACKED:
        if name.endswith(".md"):
            targets = re.findall(r"\]\(([^)#]+)[^)]*\)", (HOUSE / name).read_text())
            local = [target for target in targets if "://" not in target]
            paths = [(target, (HOUSE / name).parent.joinpath(target)) for target in local]
            missing += [(name, target) for target, path in paths if not path.exists() and path.resolve() not in made]

    assert missing == []


def test_compose_sets_only_settings_that_there_are():
    compose = yaml.safe_load((HOUSE / "docker-compose.yml").read_text())
    known = {f"PREMEM_{field.upper()}" for field in ServiceSettings.model_fields}
    known |= {f"PREMEM_WORKER_{field.upper()}" for field in WorkerSettings.model_fields}

    assert set(compose["services"]) == {"postgres", "service", "worker"}
    for name in ("service", "worker"):
        assert set(compose["services"][name]["environment"]) <= known
        target = compose["services"][name]["build"]["target"]
        assert re.search(rf"^FROM \S+ AS {target}$", (HOUSE / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("folder", "package"), [("", "premem"), ("service", "premem_service"), ("worker", "premem_worker")]
)
def test_each_wheel_holds_one_package_of_its_own_name(folder, package):
    project = tomllib.loads((HOUSE / folder / "pyproject.toml").read_text())

    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [package]
    assert project["project"]["name"] == package.replace("_", "-")
    assert (HOUSE / folder / package / "__init__.py").exists()
    # A copy: a link to the folder above leads nowhere in a source archive.
    assert not (HOUSE / folder / "LICENSE").is_symlink()
    assert (HOUSE / folder / "LICENSE").read_bytes() == (HOUSE / "LICENSE").read_bytes()


def test_the_three_wheels_have_one_version_and_the_changelog_has_a_heading_for_it():
    projects = [
        tomllib.loads((HOUSE / folder / "pyproject.toml").read_text())["project"]
        for folder in ("", "service", "worker")
    ]
    version = projects[0]["version"]

    assert [project["version"] for project in projects] == [version] * 3
    assert all(f"premem=={version}" in project["dependencies"] for project in projects[1:])
    assert f"\n## {version} (" in (HOUSE / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_names_the_two_commands(command):
    assert command in (HOUSE / "README.md").read_text()
    assert re.search(rf"^{command.split()[1]}:", (HOUSE / "Makefile").read_text(), re.MULTILINE)
