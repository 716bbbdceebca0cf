"""The gates about what a sentence embedder finds."""

from typing import Annotated

import typer

from kprune_export.cli.options import GATES

MinOverlap = Annotated[
    float | None,
    typer.Option(
        help="Embedders: smallest share of the 10 nearest documents that stay once all are embedded again.",
        rich_help_panel=GATES,
    ),
]
MinNdcg = Annotated[
    float | None,
    typer.Option(
        help="Embedders: smallest nDCG@10 with the documents embedded again; needs a retrieval data set.",
        rich_help_panel=GATES,
    ),
]
MinMrr = Annotated[float | None, typer.Option(help="The same for MRR@10.", rich_help_panel=GATES)]
MinRecall = Annotated[float | None, typer.Option(help="The same for recall@10.", rich_help_panel=GATES)]
MinIndexOverlap = Annotated[
    float | None,
    typer.Option(
        help="Embedders: smallest share of the 10 nearest documents that stay where pruned queries search the dense "
        "model's stored vectors, so that the index can stay.",
        rich_help_panel=GATES,
    ),
]
MinIndexNdcg = Annotated[
    float | None,
    typer.Option(
        help="Embedders: smallest nDCG@10 of pruned queries against the dense model's stored vectors; needs a "
        "retrieval data set.",
        rich_help_panel=GATES,
    ),
]
MinIndexMrr = Annotated[float | None, typer.Option(help="The same for MRR@10.", rich_help_panel=GATES)]
MinIndexRecall = Annotated[float | None, typer.Option(help="The same for recall@10.", rich_help_panel=GATES)]
