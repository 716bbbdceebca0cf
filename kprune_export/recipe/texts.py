"""Settings of the texts that a run calibrates on and measures fidelity with."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from kprune_export.recipe.settings import Section, Setting, Use, uses

if TYPE_CHECKING:
    from pruning.calibration.examples import Columns

_CALIBRATION = uses(Use.PRUNING, Use.QUANTIZATION)
_HELD_OUT = uses(Use.MEASUREMENT, Use.PRUNING)
"""What is held out decides what can be calibrated on, whether or not it is measured on."""


class TextsSection(Section):
    """Calibration, held-out and evaluation texts."""

    panel: ClassVar[str] = "Texts"

    calibration: Annotated[
        str | None,
        Setting(
            "Unlabelled texts like those to be served: a .txt, .jsonl, .csv, .tsv or .parquet file, or a hub data set "
            "as owner/name[:config][@split].",
            _CALIBRATION,
            shown="English sentences embedded in the installed packages",
        ),
    ] = None
    text_column: Annotated[str | None, Setting("The column with the texts.", uses(Use.ALWAYS), shown="guessed")] = None
    pair_column: Annotated[
        str | None, Setting("The column with the second texts, for pairs.", uses(Use.ALWAYS), shown="guessed")
    ] = None
    label_column: Annotated[
        str | None,
        Setting("The column with labels; only measuring uses them.", uses(Use.MEASUREMENT), shown="guessed"),
    ] = None
    samples: Annotated[int, Field(ge=1), Setting("Texts to calibrate on.", _CALIBRATION)] = 1000
    held_out: Annotated[
        int, Field(ge=1), Setting("Texts kept back to measure fidelity on (at most a fifth).", _HELD_OUT)
    ] = 200
    evaluation: Annotated[
        str | None,
        Setting(
            "Texts, labelled or not, to measure fidelity on instead. For sentence embedders also a retrieval data set "
            "in the layout of BEIR: a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv (another split as "
            "FOLDER@SPLIT), or a file with the columns query and document.",
            _HELD_OUT,
        ),
    ] = None
    seed: Annotated[
        int,
        Field(ge=0, lt=2**63),
        Setting("Chooses the texts; the same seed gives the same model, plan and ONNX files.", _CALIBRATION),
    ] = 0

    @property
    def columns(self) -> "Columns":
        """The columns of the calibration and evaluation files that were named."""
        from pruning.calibration.examples import Columns

        return Columns(self.text_column, self.pair_column, self.label_column)
