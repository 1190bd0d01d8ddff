"""docs/reference.md names every route, setting, command and flag."""

from docs.reference import PAGE, reference


def test_the_reference_is_as_the_program_is():
    written = PAGE.read_text().splitlines()
    missing = [line for line in reference().splitlines() if line not in written]

    assert not missing, "run `python -m docs.reference` and commit what it wrote"
    assert PAGE.read_text() == reference()
