"""Messages between a sweep and the process that makes one of its trials, one JSON object per line."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Order(_Message):
    """What a process is to make.

    Attributes:
        recipe: the settings of a recipe that were given.
        dense: whether it is the dense model, to be validated as it is.
        turns: the folder in which runs on this machine agree who may run.

    """

    recipe: dict[str, Any]
    dense: bool
    turns: str


class TrialEnd(_Message):
    """How a trial ended.

    Attributes:
        error: the one sentence for what went wrong; None where its bundle is made.
        exit_code: what prune-and-build would have returned for it.

    """

    error: str | None = None
    exit_code: int = 0


class Event(_Message):
    """A message of a process: one of these.

    Attributes:
        share: of the trial that is done.
        warning: of one of the packages.
        end: how it ended; the last event.

    """

    share: float | None = None
    warning: str | None = None
    end: TrialEnd | None = None
