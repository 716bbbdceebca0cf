"""``kprune-export recommend``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json
from kprune_export.errors import ExitCode

if TYPE_CHECKING:
    from kprune_export.experiments.sweep.recommend import Recommendation


def recommend(
    folder: Annotated[Path, typer.Argument(help="A folder that sweep wrote.", show_default=False)],
    min_fidelity: Annotated[
        float,
        typer.Option(help="The least that the task's headline of fidelity may be: agreement, mean cosine, R², …"),
    ],
    shape: Annotated[
        str | None, typer.Option(help="Where latency counts.", show_default="the sweep's first shape")
    ] = None,
    max_size_mib: Annotated[
        float | None, typer.Option(help="The most that the deployed file may take.", show_default="any size")
    ] = None,
    json_output: options.Json = False,
) -> int:
    """Name the fastest model of a sweep that is faithful enough, and its bundle.

    Takes the trial with the smallest measured median latency among those that keep fidelity at or above a limit, and
    every gate that the sweep was given; the dense model in a cheaper precision is one of them. Where there is none it
    says what the best fidelity is, with exit code 3.

    Example: kprune-export recommend family --min-fidelity 0.97 --shape 8x128
    """
    from kprune_export.cli.early_checks import check_sweep

    check_sweep(folder)
    from kprune_export.experiments.sweep.recommend import Wish
    from kprune_export.experiments.sweep.recommend import recommend as run
    from kprune_export.experiments.sweep.sweep_record import SweepRecord

    record = SweepRecord.of_folder(folder)
    found = run(record, Wish(min_fidelity=min_fidelity, shape=shape, max_size_mib=max_size_mib))
    if json_output:
        print_json(found.model_dump_json(indent=2))
    else:
        _show(found, folder, record.held_out.caveat)
    return ExitCode.OK


def _show(found: "Recommendation", folder: Path, caveat: str) -> None:
    from kprune_export.cli.console import output_console
    from kprune_export.experiments.sweep.recommend import in_words

    console = output_console()
    console.print(in_words(found.best, found), markup=False)
    console.print(f"Its bundle: {folder / found.best.bundle}", markup=False)
    if found.second is not None:
        console.print(f"Second: {in_words(found.second, found)}", markup=False)
    if caveat:
        console.print(f"{caveat[0].upper()}{caveat[1:]}.", markup=False)
