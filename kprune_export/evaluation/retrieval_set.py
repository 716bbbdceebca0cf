"""Evaluation data for retrieval: queries, documents and relevance labels, in BEIR's layout or as pairs."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from kprune_export.errors import LabelError
from kprune_export.evaluation.retrieval_metrics import Search
from pruning.calibration.examples import Example, TextSource, read_table

logger = logging.getLogger(__name__)

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
DEFAULT_SPLIT = "test"
RELEVANT_PAIRS = (("query", "passage"), ("query", "document"), ("query", "text"), ("anchor", "positive"))
"""Names of columns whose pairs are a query and a document that is relevant to it, unless a label says otherwise."""


@dataclass(frozen=True)
class RetrievalSet:
    """Queries, the documents to search, and which of these are relevant.

    Attributes:
        queries: the queries that have a relevant document.
        documents: all documents, each text once.
        relevant: for each query, the gain of each relevant document by its place in `documents`.

    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevant: tuple[Mapping[int, float], ...]

    @classmethod
    def build(
        cls, queries: Sequence[str], documents: Sequence[str], relevant: Sequence[Mapping[str, float]], origin: str
    ) -> Self:
        """Bring labelled queries into one form.

        Documents with the same text are one. A query's own text is not relevant to it, as any model finds that.
        Queries without a relevant document are left out.

        Args:
            queries: all queries.
            documents: all documents; one may repeat.
            relevant: for each query, the gain of documents by their texts; those of 0 are not relevant.
            origin: where they were read from, for messages.

        Raises:
            LabelError: no query has a relevant document, or there are fewer than two documents.

        """
        places = {text: place for place, text in enumerate(dict.fromkeys(documents))}
        labelled = [
            (query, {places[text]: gain for text, gain in known.items() if gain > 0 and text != query})
            for query, known in zip(queries, relevant, strict=True)
        ]
        kept = [(query, known) for query, known in labelled if known]
        if not kept or len(places) < 2:
            what = "no query with a relevant document" if not kept else "fewer than two different documents"
            raise LabelError(f"{origin} has {what}, so retrieval cannot be measured with it.")
        return cls(tuple(query for query, _ in kept), tuple(places), tuple(known for _, known in kept))

    @property
    def examples(self) -> tuple[Example, ...]:
        """Every text once, the queries first."""
        return tuple(map(Example, dict.fromkeys((*self.queries, *self.documents))))

    @property
    def sha256(self) -> str:
        """A hash of all of it."""
        parts = [self.queries, self.documents, [sorted(known.items()) for known in self.relevant]]
        text = json.dumps(parts, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def search(self, rows: Mapping[str, int]) -> Search:
        """Return the search among embeddings, given the row of each text."""
        documents = [rows[text] for text in self.documents]
        return Search(
            queries=np.array([rows[text] for text in self.queries]),
            documents=np.array(documents),
            relevant=tuple({documents[place]: gain for place, gain in known.items()} for known in self.relevant),
        )


def is_retrieval_folder(source: str) -> bool:
    """Whether a source of texts names a folder, which can only be a retrieval data set."""
    return Path(source).is_dir() or Path(source.rpartition("@")[0] or source).is_dir()


def read_retrieval_folder(source: str) -> RetrievalSet:
    """Read a folder in the layout of BEIR: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.

    A document's text is its title, where it has one, a space, and its text, as BEIR reads it.
    https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset.

    Args:
        source: the folder, or ``FOLDER@SPLIT``; without a split it is ``test``, or the only one there is.

    Raises:
        CalibrationError: a file is missing or damaged.
        LabelError: the files do not fit together.

    """
    folder, split = (Path(source), "") if Path(source).is_dir() else (Path(x) for x in source.rsplit("@", 1))
    documents = _texts(folder / CORPUS, titled=True)
    if empty := [number for number, text in documents.items() if not text]:
        logger.warning("%d documents of %s have no text, and are left out.", len(empty), folder / CORPUS)
    queries = _texts(folder / QUERIES, titled=False)
    path = _relevance_file(folder, str(split) if split else None)
    relevant: dict[str, dict[str, float]] = {}
    for query, document, gain in _rows(path):
        for name, known, file in ((query, queries, QUERIES), (document, documents, CORPUS)):
            if not known.get(name):
                raise LabelError(f"{path} names {name!r}, which {folder / file} lacks, or has without a text.")
        gains = relevant.setdefault(query, {})
        gains[documents[document]] = max(gain, gains.get(documents[document], 0.0))
    return RetrievalSet.build(
        [queries[x] for x in relevant], [x for x in documents.values() if x], list(relevant.values()), source
    )


def is_relevance(found: TextSource) -> bool:
    """Whether the columns of texts say that second texts are documents relevant to the first."""
    return (str(found.text).lower(), str(found.pair).lower()) in RELEVANT_PAIRS


def retrieval_of_pairs(found: TextSource, origin: str) -> RetrievalSet:
    """Return the retrieval task that pairs of a query and a document are; the documents are all second texts.

    A pair whose label is not above 0 is not relevant; without a label column all are.

    Raises:
        LabelError: labels are missing or not numbers, or no pair is relevant.

    """
    relevant: dict[str, dict[str, float]] = {}
    for example in found.examples:
        gain = example.label if found.label else 1.0
        if not isinstance(gain, int | float):
            raise LabelError(f"The label {gain!r} of a query and a document in {origin} is not a number.")
        gains = relevant.setdefault(example.text, {})
        if example.pair:
            gains[example.pair] = max(float(gain), gains.get(example.pair, 0.0))
    documents = [example.pair for example in found.examples if example.pair]
    return RetrievalSet.build(list(relevant), documents, list(relevant.values()), origin)


def _texts(path: Path, *, titled: bool) -> dict[str, str]:
    """Return the texts of a file by their ids."""
    table = read_table(path)
    for name in ("_id", "text"):
        if name not in table.names:
            raise LabelError(f"{path} has no {name!r}: its fields are {', '.join(table.names) or 'none'}.")
    numbers, texts = list(table.values("_id")), list(table.values("text"))
    titles = list(table.values("title")) if titled and "title" in table.names else [None] * len(numbers)
    found: dict[str, str] = {}
    for number, text, title in zip(numbers, texts, titles, strict=True):
        if str(number) in found or number is None:
            raise LabelError(f"{path} has the _id {number!r} twice, or not at all: every text needs one of its own.")
        found[str(number)] = " ".join(str(part).strip() for part in (title, text) if part)
    return found


def _relevance_file(folder: Path, split: str | None) -> Path:
    there = sorted(path.stem for path in (folder / QRELS).glob("*.tsv"))
    wanted = split or (there[0] if len(there) == 1 else DEFAULT_SPLIT)
    if wanted not in there:
        known = ", ".join(there) or "none"
        advice = f": name one as --evaluation {folder}@{there[0]}" if there else ""
        raise LabelError(f"{folder / QRELS} has no {wanted}.tsv; its files of relevance are {known}{advice}.")
    return folder / QRELS / f"{wanted}.tsv"


def _rows(path: Path) -> list[tuple[str, str, float]]:
    table = read_table(path)
    names = ("query-id", "corpus-id", "score")
    if any(name not in table.names for name in names):
        raise LabelError(f"{path} needs the columns {', '.join(names)}, but has {', '.join(table.names) or 'none'}.")
    rows = []
    for query, document, score in zip(*(table.values(name) for name in names), strict=True):
        try:
            gain = float(score)
        except ValueError:
            gain = float("nan")
        if not 0 <= gain < float("inf"):
            raise LabelError(f"{path} has the score {score!r}, which is not a number from 0.")
        rows.append((query, document, gain))
    return rows
