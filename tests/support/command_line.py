"""The command line, run in this process."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest


class Printed(NamedTuple):
    out: str
    err: str


@dataclass(frozen=True)
class Run:
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: object, code: int | None = 0) -> Printed:
        """Run a command that must exit with ``code`` (None: any), and return its output."""
        from foremask.cli.commands import main  # of few tests

        self.capsys.readouterr()
        ended = main([str(word) for word in words])
        printed = Printed(*self.capsys.readouterr())
        assert code in (None, ended), (ended, printed)
        return printed

    def refused(self, *words: object, code: int = 2) -> str:
        """Run a command that must fail with one line, and return the line."""
        out, err = self(*words, code=code)
        assert (out, err.startswith("error: "), err.count("\n")) == ("", True, 1)
        return err
