"""Retrieval data sets: how they are read, what is wrong with them, and an embedder that is measured with one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kprune_export.bundle.manifest import Manifest
from kprune_export.errors import LabelError, RecipeError
from kprune_export.evaluation.retrieval_set import RetrievalSet, read_retrieval_folder, retrieval_of_pairs
from kprune_export.experiments.compare.request import ComparisonRequest
from kprune_export.experiments.compare.run import compare
from kprune_export.pipeline.job import prepare_job
from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.pipeline.summary import summarise
from kprune_export.pipeline.texts import choose_texts
from kprune_export.recipe.gates import RETRIEVAL_GATES
from kprune_export.recipe.recipe import Recipe
from pruning.calibration.examples import Example, TextSource
from pruning.errors import CalibrationError
from pruning.tasks import SentenceEmbedding, SingleLabel

Cli = Callable[..., int]
MakeRecipe = Callable[..., Recipe]
MakeSentences = Callable[..., list[str]]
CORPUS = [
    {"_id": "d1", "title": "A title", "text": "one text"},
    {"_id": "d2", "title": "", "text": "two"},
    {"_id": "d3", "text": "three"},
    {"_id": "d4", "title": "", "text": "two"},
]
QUERIES = [{"_id": "q1", "text": "first?"}, {"_id": "q2", "text": "second?"}, {"_id": "q3", "text": "unjudged"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t0\nq2\td4\t1\n"


def write(
    folder: Path, corpus: object = CORPUS, queries: object = QUERIES, qrels: str = QRELS, split: str = "test"
) -> str:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))  # type: ignore[attr-defined]
    (folder / "qrels" / f"{split}.tsv").write_text(qrels)
    return str(folder)


def test_a_folder_as_beir_has_it(tmp_path: Path) -> None:
    found = read_retrieval_folder(write(tmp_path))
    assert found.queries == ("first?", "second?")  # the third has no relevant document
    assert found.documents == ("A title one text", "two", "three")  # two texts are the same
    assert found.relevant == ({0: 2.0}, {1: 1.0})  # a gain of 0 is not relevant
    assert [x.text for x in found.examples] == ["first?", "second?", "A title one text", "two", "three"]
    search = found.search({x.text: row for row, x in enumerate(found.examples)})
    assert search.queries.tolist() == [0, 1]
    assert search.documents.tolist() == [2, 3, 4]
    assert search.relevant == ({2: 2.0}, {3: 1.0})
    again = read_retrieval_folder(str(tmp_path))
    assert again.sha256 == found.sha256
    assert read_retrieval_folder(write(tmp_path, qrels=QRELS.replace("\t2", "\t1"))).sha256 != found.sha256


def test_which_relevance_file_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path, split="dev")
    assert read_retrieval_folder(folder).queries == ("first?", "second?")  # the only one
    write(tmp_path, qrels=QRELS.replace("q2\td4\t1\n", ""), split="test")
    assert read_retrieval_folder(folder).queries == ("first?",)
    assert read_retrieval_folder(f"{folder}@dev").queries == ("first?", "second?")
    with pytest.raises(LabelError, match=r"qrels has no train.tsv; its files of relevance are dev, test: name one as"):
        read_retrieval_folder(f"{folder}@train")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"qrels": "q1\td1\t1\n"}, "needs the columns query-id, corpus-id, score, but has q1, d1, 1"),
        ({"qrels": QRELS + "q9\td1\t1\n"}, "names 'q9', which .*queries.jsonl lacks"),
        ({"qrels": QRELS + "q1\td9\t1\n"}, "names 'd9', which .*corpus.jsonl lacks"),
        ({"qrels": QRELS + "q1\td1\tyes\n"}, "has the score 'yes', which is not a number from 0"),
        ({"qrels": QRELS + "q1\td1\t-1\n"}, "has the score '-1'"),
        ({"qrels": QRELS + "q1\td1\tnan\n"}, "has the score 'nan'"),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\t0\n"}, "has no query with a relevant document"),
        ({"corpus": CORPUS[:1], "qrels": QRELS.partition("q1\td3")[0]}, "has fewer than two different documents"),
        ({"corpus": [*CORPUS, CORPUS[0]]}, "corpus.jsonl has the _id 'd1' twice"),
        ({"queries": [{"text": "x"}]}, "queries.jsonl has no '_id': its fields are text"),
        ({"queries": [{"_id": "q1", "text": ""}, *QUERIES[1:]]}, "names 'q1', which .* has without a text"),
        ({"corpus": [{"_id": "d1"}]}, "corpus.jsonl has no 'text'"),
    ],
)
def test_folders_that_do_not_fit_together(changed: dict[str, object], problem: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=problem) as caught:
        read_retrieval_folder(write(tmp_path, **changed))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_folders_that_are_not_whole(missing: str, tmp_path: Path) -> None:
    folder = write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises((CalibrationError, LabelError), match="does not exist|has no test.tsv"):
        read_retrieval_folder(folder)


def test_documents_without_a_text_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read_retrieval_folder(write(tmp_path, corpus=[*CORPUS, {"_id": "d5", "text": None}]))
    assert len(found.documents) == 3
    assert "1 documents of" in caplog.text


def pairs(*rows: tuple[object, ...], label: str | None = None) -> TextSource:
    return TextSource(tuple(Example(*row) for row in rows), ("query", "document"), "query", "document", label)  # type: ignore[arg-type]


def test_pairs_of_a_query_and_a_document() -> None:
    found = retrieval_of_pairs(pairs(("q", "a"), ("r", "b"), ("q", "c")), "f")
    assert (found.queries, found.documents) == (("q", "r"), ("a", "b", "c"))
    assert found.relevant == ({0: 1.0, 2: 1.0}, {1: 1.0})
    graded = retrieval_of_pairs(pairs(("q", "a", 2), ("q", "b", 0), ("r", "a", 0), label="score"), "f")
    assert (graded.queries, graded.documents, graded.relevant) == (("q",), ("a", "b"), ({0: 2.0},))
    with pytest.raises(LabelError, match="The label 'yes' of a query and a document in f is not a number"):
        retrieval_of_pairs(pairs(("q", "a", "yes"), label="score"), "f")


def test_a_query_is_not_relevant_to_itself() -> None:
    """Any model, however bad, finds a text by itself."""
    found = retrieval_of_pairs(pairs(("q", "q"), ("r", "r"), ("r", "b")), "f")
    assert (found.queries, found.relevant) == (("r",), ({2: 1.0},))
    with pytest.raises(LabelError, match="f has no query with a relevant document"):
        retrieval_of_pairs(pairs(("q", "q"), ("r", "r")), "f")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("query,document", True),
        ("Query,Passage", True),
        ("anchor,positive", True),
        ("sentence1,sentence2", False),  # pairs, but nothing says that the second answers the first
    ],
)
def test_columns_say_whether_pairs_are_relevant(header: str, found: bool, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(header + "\n" + "".join(f"question {n},answer {n}\n" for n in range(20)))
    recipe = Recipe.build(None, {"model": "m", "output": "o", "evaluation": str(path)})
    chosen = choose_texts(recipe, SentenceEmbedding(), calibrates=False, measures=True)
    assert (chosen.retrieval is not None) is found
    assert choose_texts(recipe, SingleLabel(("a", "b")), calibrates=False, measures=True).retrieval is None


def test_labels_that_are_no_relevance(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("query,document,label\n" + "".join(f"question {n},answer {n},good\n" for n in range(20)))
    recipe = Recipe.build(None, {"model": "m", "output": "o", "evaluation": str(path)})
    assert choose_texts(recipe, SentenceEmbedding(), calibrates=False, measures=True).retrieval is None
    assert "Retrieval is not measured: The label 'good'" in caplog.text
    asked = recipe.model_copy(update={"min_mrr": 0.5})
    with pytest.raises(LabelError, match="The label 'good'"):
        choose_texts(asked, SentenceEmbedding(), calibrates=False, measures=True)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, make_sentences: MakeSentences) -> Path:
    """A task whose documents are sentences, and whose queries are their beginnings."""
    folder = tmp_path_factory.mktemp("task")
    sentences = dict.fromkeys(make_sentences(120, seed=11, length=14))
    documents = [text for text in sentences if len(text.split()) > 4][:80]
    corpus = [{"_id": f"d{n}", "text": text} for n, text in enumerate(documents)]
    queries = [{"_id": f"q{n}", "text": " ".join(documents[n].split()[:3])} for n in range(30)]
    qrels = "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(30))
    write(folder, corpus, queries, qrels)
    return folder


@pytest.fixture(scope="module")
def searched(
    embedder: Path, texts_file: Path, task: Path, make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    gates = dict.fromkeys(RETRIEVAL_GATES, 0.0) | {"min_metric": 0.0, "min_index_mrr": 1.1}
    settings = {"flops_reduction": 0.2, "shapes": "1x8", "evaluation": str(task), **gates}
    return prune_and_build(make_recipe(embedder, tmp_path_factory.mktemp("searched") / "out", texts_file, **settings))


def test_both_ways_to_deploy_are_measured_gated_and_shown(searched: Outcome) -> None:
    report = searched.reports[0].fidelity
    assert report is not None
    assert report.metric is not None
    assert report.metric.name == "ndcg_at_10"  # what --min-metric is about
    assert report.metric.examples == 30
    gates = {gate.name: gate for gate in searched.manifest.gates}
    for name, figure in RETRIEVAL_GATES.items():
        assert gates[name].value == report.figure(figure)
    assert searched.manifest.verdict == "failed"
    assert [name for name, gate in gates.items() if gate.broken] == ["min_index_mrr"]
    page = (searched.output / "report.html").read_text()
    assert "<h2>Can the index stay?</h2>" in page
    for name in ("top_10_overlap", "ndcg_at_10", "mrr_at_10", "recall_at_10"):
        again, kept = report.figure(name), report.figure(f"index_{name}")
        row = page[page.index(f'>{name.replace("_", " ")}</td><td class="number"') :].split("</tr>")[0]
        assert f"{again:.4f}" in row
        assert f"{kept:.4f}" in row
    card = (searched.output / "checkpoint" / "README.md").read_text().replace("\\", "")
    assert f"{report.figure('index_mrr_at_10'):.4f}" in card
    assert "| min_index_mrr | ≥ 1.1 |" in card
    figures = {x.name for x in summarise(searched).variants[0].further_metrics}
    assert "index_recall_at_10" in figures


def test_the_metrics_are_those_of_a_search_by_hand(searched: Outcome, task: Path, embedder: Path) -> None:
    """MRR and recall of the dense model, and of pruned queries against its vectors, from plain dot products."""
    import onnxruntime
    from transformers import AutoTokenizer

    data = read_retrieval_folder(str(task))
    tokenizer = AutoTokenizer.from_pretrained(embedder)
    from kprune_export.pipeline.run import export

    dense = export(Recipe.build(None, {"model": str(embedder), "output": searched.output.parent / "d", "threads": 2}))

    def embed(model: Path, texts: tuple[str, ...]) -> np.ndarray:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = {x.name for x in session.get_inputs()}
        rows = [dict(tokenizer(x, return_tensors="np", truncation=True)) for x in texts]
        found = [session.run(None, {k: v.astype(np.int64) for k, v in row.items() if k in names})[0][0] for row in rows]
        return np.stack([x / np.linalg.norm(x) for x in found]).astype(np.float64)

    stored = embed(dense.output / "onnx/model.onnx", data.documents)
    report = searched.reports[0].fidelity
    assert report is not None
    for model, name in ((dense.output, None), (searched.output, "index_")):
        scores = embed(model / "onnx/model.onnx", data.queries) @ stored.T
        own = np.array([[x == q for x in data.documents] for q in data.queries])
        relevant = np.array([[n in known for n in range(len(data.documents))] for known in data.relevant])
        scores[own & ~relevant] = -2
        ranks = [
            1 + int((row > row[next(iter(known))]).sum()) for row, known in zip(scores, data.relevant, strict=True)
        ]
        mrr = float(np.mean([1 / rank if rank <= 10 else 0 for rank in ranks]))
        recall = float(np.mean([rank <= 10 for rank in ranks]))
        metrics = {x.name: x for x in report.metrics}
        if name is None:
            assert (metrics["mrr_at_10"].dense, metrics["recall_at_10"].dense) == pytest.approx((mrr, recall), abs=0.02)
        else:
            found = (metrics["index_mrr_at_10"].pruned, metrics["index_recall_at_10"].pruned)
            assert found == pytest.approx((mrr, recall), abs=0.02)


def test_unlabelled_texts_have_overlaps_alone(
    embedder: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(embedder, tmp_path / "out", texts_file, min_overlap=0.0, min_index_overlap=0.0, shapes="1x8")
    job = prepare_job(recipe, prunes=True, exports=True, measures=True)
    assert job.retrieval is None
    with pytest.raises(RecipeError, match="--min-index-mrr needs queries whose relevant documents are known"):
        prepare_job(recipe.model_copy(update={"min_index_mrr": 0.1}), prunes=True, exports=True, measures=True)
    few = recipe.model_copy(update={"held_out": 11})
    with pytest.raises(
        RecipeError, match="--min-overlap is about the 10 nearest of all documents, but there are only 11"
    ):
        prepare_job(few, prunes=True, exports=True, measures=True)


def test_a_retrieval_data_set_is_for_embedders(
    classifier: Path, embedder: Path, texts_file: Path, task: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    with pytest.raises(
        LabelError, match=r"is a folder, a retrieval data set, which is for sentence embedders, but the"
    ):
        prune_and_build(make_recipe(classifier, tmp_path / "out", texts_file, evaluation=str(task)))
    with pytest.raises(LabelError, match="--label-column is for files with columns, but .* is a folder"):
        prune_and_build(make_recipe(embedder, tmp_path / "out", texts_file, evaluation=str(task), label_column="score"))
    assert not (tmp_path / "out").exists()


def test_comparisons_show_both_ways(embedder: Path, texts_file: Path, task: Path, tmp_path: Path) -> None:
    settings = {
        "model": str(embedder), "calibration": str(texts_file), "output": tmp_path / "out", "evaluation": str(task),
        "samples": 60, "sequence_length": 16, "threads": 2,
    }  # fmt: skip
    found = compare(ComparisonRequest.build("magnitude,random", "0.3", "0", settings))
    assert found.metric_name == "ndcg_at_10"
    assert found.retrieval_names[:2] == ("top_10_overlap", "index_top_10_overlap")
    row = found.row("magnitude", 0.3)
    assert row.retrieval["index_mrr_at_10"].value == found.cells[0].measured.retrieval["index_mrr_at_10"]  # type: ignore[union-attr]
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "## Index recall at 10, higher is better" in text
    assert f"{row.retrieval['index_recall_at_10'].value:.4f}" in text


def test_validating_takes_another_retrieval_data_set(searched: Outcome, cli: Cli, task: Path, tmp_path: Path) -> None:
    """On the command line, with the gates of retrieval as flags."""
    again = tmp_path / "again"
    flags = ["--evaluation", task, "--min-index-mrr", 0.0, "--min-recall", 1.5, "--no-dense-int8", "--shapes", "1x4"]
    assert cli("validate", searched.output, "-o", again, "--threads", 2, *flags) == 3
    gates = {gate.name: gate.passed for gate in Manifest.of_bundle(again).gates}
    assert (gates["min_index_mrr"], gates["min_recall"]) == (True, False)


def test_equal_sets_have_equal_hashes() -> None:
    one = RetrievalSet(("q",), ("a", "b"), ({0: 1.0, 1: 2.0},))
    assert one.sha256 == RetrievalSet(("q",), ("a", "b"), ({1: 2.0, 0: 1.0},)).sha256
