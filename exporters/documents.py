"""JSON documents: files whose format and version are checked when they are read, and that are written whole."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class Record(BaseModel):
    """Immutable values that are part of a document; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Record):
    """A JSON file.

    Subclasses declare ``format`` and ``version`` as fields of one literal value each, and the class variables below.

    Attributes:
        noun: what such a file is, as errors call it: ``manifest``.
        error: the exception that is raised for a file that cannot be read.
        remedy: what to do about a file that is not valid, as a clause: ``build the bundle again``.
        indent: by how many spaces each level is indented.

    """

    noun: ClassVar[str]
    error: ClassVar[type[Exception]]
    remedy: ClassVar[str] = ""
    indent: ClassVar[int] = 2

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a document.

        Raises:
            error: the file is missing or cannot be read, or is not a valid document of this format and version.

        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise cls.error(f"{path} cannot be read: {error.strerror}.") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: str | bytes, origin: str) -> Self:
        """Return the document that a text holds; ``origin`` names it in errors.

        Raises:
            error: it is not a valid document of this format and version.

        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            remedy = f": {cls.remedy}" if cls.remedy else ""
            message = f"{origin} is not a valid {cls.noun}: {first_problem(error)}{remedy}."
            raise cls.error(message) from error

    def to_json(self) -> str:
        """Return the text of the file."""
        return self.model_dump_json(indent=self.indent) + "\n"

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(self.to_json(), encoding="utf-8")
        partial.replace(path)


def first_problem(error: ValidationError) -> str:
    """Return the first problem that pydantic found, as ``where: what``."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the whole"
    return f"{where}: {problem['msg']}"
