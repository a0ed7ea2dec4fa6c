"""Exit codes are told apart, and documented."""

from jobs import exit_codes
from jobs.app import HELP
from tests.conftest import ROOT

CODES = {
    name: value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")
}


def test_no_two_codes_are_the_same() -> None:
    assert len(set(CODES.values())) == len(CODES)


def test_every_code_is_in_the_help_and_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for code in CODES.values():
        assert f" {code} " in HELP
        assert f"| {code} |" in readme
