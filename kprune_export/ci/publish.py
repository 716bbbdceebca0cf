"""Writing what build servers read."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kprune_export.ci.checks import Check, check_of_error, checks_of
from kprune_export.ci.junit import is_junit_xml, junit_xml
from kprune_export.ci.step_summary import error_markdown, summary_markdown
from kprune_export.errors import RecipeError
from kprune_export.output_folder.files import check_replaceable
from kprune_export.output_folder.inputs import OUTPUT, Place, check_apart
from kprune_export.pipeline.summary import Summary

STEP_SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""Names the file that a step's summary is appended to; set by GitHub Actions:
https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""


@dataclass(frozen=True)
class CiReports:
    """Where a run's checks are written; make it with `open`.

    Attributes:
        junit: the file for JUnit XML, if one was asked for.
        step_summary: the file for the step's summary, if the environment names one.

    """

    junit: Path | None
    step_summary: Path | None

    @classmethod
    def open(cls, junit: Path | None, output: Path, inputs: Sequence[Place] = ()) -> Self:
        """Check, before anything long is done, that the files can be written.

        The JUnit file is emptied, so that it never shows an earlier run's checks.

        Args:
            junit: the file for JUnit XML, if one was asked for.
            output: the output folder.
            inputs: what the run reads.

        Raises:
            RecipeError: one of them cannot be written.
            OutputFolderError: one of them is something that is read, or in the output folder, or the JUnit file holds
                something else.

        """
        named = os.environ.get(STEP_SUMMARY_VARIABLE)
        check_apart([(OUTPUT, output), ("JUnit file", junit), ("step summary", named)], inputs)
        if junit:
            check_replaceable(junit, "JUnit XML", is_junit_xml)
            _write(junit, "", "w")
        if named:
            _write(Path(named), "", "a")
        return cls(junit, Path(named) if named else None)

    @contextlib.contextmanager
    def of_errors(self) -> Iterator[None]:
        """Write what the run inside ends with, if it is an error."""
        try:
            yield
        except Exception as error:
            check = check_of_error(error)
            self._write((check,), error_markdown(check))
            raise

    def publish(self, summary: Summary) -> None:
        """Write a finished run's checks."""
        self._write(checks_of(summary), summary_markdown(summary))

    def _write(self, checks: Sequence[Check], markdown: str) -> None:
        if self.junit:
            _write(self.junit, junit_xml(checks), "w")
        if self.step_summary:
            _write(self.step_summary, markdown, "a")


def _write(path: Path, text: str, mode: str) -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RecipeError(f"The file {path} cannot be written: {error.strerror}.") from error
