"""The table of commands: it lists what there is, as it is, and imports only what is called."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from premem.cli.commands import COMMANDS, Command
from premem.cli.main import main


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_listed_help_is_the_first_line_of_the_command(command: Command):
    assert inspect.getdoc(command.function()).splitlines()[0] == command.help


def test_help_lists_every_command_and_imports_none_of_them():
    script = (
        "import sys\nfrom premem.cli.main import main\nsys.argv = ['premem', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*[name for name in sys.modules if name.startswith('premem.')], file=sys.stderr)"
    )

    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    listed = [line.strip("│ ").split(" ")[0] for line in shown.stdout.splitlines() if line.startswith("│")]
    assert set(COMMANDS) <= set(listed)
    loaded = set(shown.stderr.split())
    assert {f"premem.cli.{command.module}" for command in COMMANDS.values()} & loaded == set()
    assert "premem.client.client" not in loaded


@pytest.mark.parametrize("program", [["-m", "premem"], [Path(sys.executable).with_name("premem")]], ids=str)
def test_the_module_and_the_script_are_one_program(program):
    command = program if program[0] != "-m" else [sys.executable, *program]

    told = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    refused = subprocess.run([*command, "nonsense"], capture_output=True, text=True, check=False)

    assert told.stdout == f"{version('premem')}\n"
    assert refused.returncode == 2
    assert refused.stderr.startswith("Usage: premem ")


@pytest.mark.parametrize(
    ("program", "lacking", "told"),
    [
        (["serve"], "fastapi", "the service needs fastapi, not installed here: pip install 'premem[service]'"),
        (["serve", "--help"], "premem_service", "pip install 'premem[service]'"),
        (["worker"], "torch", "pip install 'premem[worker]' (with vLLM, for GPUs: pip install 'premem[vllm]')"),
        (
            ["score", "pyproject.toml", "tests"],
            "premem_worker",
            "a private service with its worker needs premem_worker, not installed here: pip install 'premem[local]'",
        ),
    ],
)
def test_where_a_program_is_not_installed_it_is_said_how_to(program, lacking, told, monkeypatch, capsys):
    monkeypatch.setattr("premem.extras.find_spec", lambda name: None if name == lacking else object())
    monkeypatch.setattr(sys, "argv", ["premem", *program])
    monkeypatch.delenv("PREMEM_SERVICE", raising=False)
    monkeypatch.chdir(Path(__file__).parents[3])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert told in capsys.readouterr().err
