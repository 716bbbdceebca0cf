from pathlib import Path

import pytest

from exporters.tensorrt.log import BuilderLog, LogEntry
from exporters.tensorrt.progress import BuildProgress

ENTRIES = [
    LogEntry("INFO", "begins"),
    LogEntry("WARNING", "a\n  warning"),
    LogEntry("ERROR", "an error"),
    LogEntry("INTERNAL_ERROR", "an error"),
]


def test_errors_and_warnings_are_distinguished() -> None:
    log = BuilderLog(list(ENTRIES))
    assert log.errors() == ("an error",)
    assert log.complaints() == ("a warning", "an error")
    assert log.complaints(since=4) == ()


def test_the_file_keeps_the_order(tmp_path: Path) -> None:
    BuilderLog(ENTRIES[:2]).write(tmp_path / "model.log", tmp_path)
    assert (tmp_path / "model.log").read_text(encoding="utf-8") == "[INFO] begins\n[WARNING] a\n  warning\n"


def test_only_layers_are_kept_of_what_is_verbose(tensorrt: None) -> None:
    import tensorrt as trt

    log = BuilderLog()
    logger = log.logger(trt)
    logger.log(trt.ILogger.VERBOSE, "a tactic")
    logger.log(trt.ILogger.VERBOSE, "Layers:\nName: x")
    logger.log(trt.ILogger.INFO, "done")
    assert log.entries == [LogEntry("VERBOSE", "Layers:\nName: x"), LogEntry("INFO", "done")]


def test_steps_of_inner_phases_are_parts_of_outer_ones() -> None:
    shares: list[float] = []
    progress = BuildProgress(shares.append)
    progress.start("build", None, 4)
    assert progress.step("build", 0)  # 1 of 4
    progress.start("tactics", "build", 2)
    progress.step("tactics", 0)  # and half of the second
    progress.start("kernel", "tactics", 5)
    progress.step("kernel", 0)  # and a fifth of the other half
    progress.finish("kernel")
    progress.step("tactics", 0)  # no more than before
    progress.finish("tactics")
    progress.step("build", 1)
    progress.step("unknown", 0)
    assert shares == pytest.approx([1 / 4, 3 / 8, 3 / 8 + 1 / 40, 1 / 2])


def test_an_error_stops_the_build_and_is_raised_afterwards() -> None:
    def fail(share: float) -> None:
        raise ValueError(f"at {share}")

    progress = BuildProgress(fail)
    progress.start("build", None, 4)
    assert not progress.step("build", 0)
    assert not progress.step("build", 1)
    with pytest.raises(ValueError, match=r"at 0\.25"):
        progress.raise_if_failed()
