"""What `import premem` costs, and what it gives."""

import subprocess
import sys

import pytest

import premem

HEAVY = ("torch", "vllm", "transformers", "fastapi", "sqlalchemy", "uvicorn", "polars", "pyarrow", "scipy", "sklearn")


@pytest.mark.parametrize(
    ("module", "quick"),
    [
        ("premem", ("numpy", "pydantic", "httpx", "rich")),
        ("premem.cli.main", ("numpy", "pydantic", "httpx")),
        ("premem.client.client", ()),
    ],
)
def test_importing_loads_only_what_is_needed(module, quick):
    script = f"import sys, {module}; print(*[name for name in {HEAVY + quick!r} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert loaded.stdout.split() == []


@pytest.mark.parametrize("name", premem.__all__)
def test_every_public_name_leads_somewhere(name):
    assert getattr(premem, name).__module__.startswith(("premem.", "typing"))
    assert name in dir(premem)


def test_no_other_name_does():
    with pytest.raises(AttributeError, match="no attribute 'Manager'"):
        _ = premem.Manager
