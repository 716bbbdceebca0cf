"""Retrieval with a sentence embedder before and after pruning, with the index embedded again and with the index kept.

    python benchmarks/retrieval.py MODEL DATA TASKS --rates 0.5,0.8

MODEL is a sentence-transformers checkpoint, DATA a folder with MRPC and STS-B as TSV (mrpc/, stsb/) and WikiText-2
(wikitext2/). It calibrates on sentences of STS-B's training set. Two tasks are written into the folder TASKS in the
layout of BEIR, which `kprune-export … --evaluation TASKS/mrpc` reads too:

- mrpc: the first sentence of a paraphrase finds the second, among the second sentences of all pairs;
- wikitext2: a sentence finds the paragraph that it was taken out of, among all paragraphs.
"""

import argparse
import json
import random
import re
from pathlib import Path

from embed_stsb import embed

from kprune_export.evaluation.retrieval_metrics import METRICS, Rankings, embedding_fidelity
from kprune_export.evaluation.retrieval_set import (
    CORPUS,
    DEFAULT_SPLIT,
    QRELS,
    QUERIES,
    read_retrieval_folder,
)
from pruning import PruningSettings, load_checkpoint
from pruning.calibration.examples import flatten_pairs, read_examples, split_examples
from pruning.prune import prune_checkpoint

QUERY_COUNT = 1500
SHORTEST_QUERY = 8
"""In words."""
_SENTENCE_END = re.compile(r"(?<= [.!?]) (?=[A-Z\"])")


def write_task(folder: Path, queries: list[str], documents: list[str], relevant: list[int]) -> None:
    """Write a task in the layout of BEIR, with one relevant document for each query."""
    (folder / QRELS).mkdir(parents=True, exist_ok=True)
    corpus = [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(documents)]
    asked = [{"_id": f"q{n}", "text": text} for n, text in enumerate(queries)]
    for name, rows in ((CORPUS, corpus), (QUERIES, asked)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    relevance = "".join(f"q{n}\td{place}\t1\n" for n, place in enumerate(relevant))
    (folder / QRELS / f"{DEFAULT_SPLIT}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{relevance}", encoding="utf-8")


def paraphrases(data: Path, folder: Path) -> None:
    """Write the task of MRPC."""
    pairs = [pair for split in ("train", "dev", "test") for pair in read_examples(data / f"{split}.tsv")]
    documents = list(dict.fromkeys(pair.pair or "" for pair in pairs))
    place = {text: number for number, text in enumerate(documents)}
    queries: dict[str, int] = {}
    for pair in pairs:
        if pair.label == 1 and len(queries) < QUERY_COUNT:
            queries.setdefault(pair.text, place[pair.pair or ""])
    write_task(folder, list(queries), documents, list(queries.values()))


def paragraphs(data: Path, folder: Path) -> None:
    """Write the task of WikiText-2: from paragraphs of at least three sentences one is taken out at random."""
    chance = random.Random(0)
    queries, documents, relevant = [], [], []
    for name in ("wiki.valid.raw", "wiki.test.raw"):
        for line in (data / name).read_text(encoding="utf-8").splitlines():
            text = line.strip()
            if not text or text.startswith("="):
                continue
            sentences = _SENTENCE_END.split(text)
            long_enough = [n for n, sentence in enumerate(sentences) if len(sentence.split()) >= SHORTEST_QUERY]
            if len(sentences) >= 3 and long_enough:
                taken = chance.choice(long_enough)
                queries.append(sentences.pop(taken))
                relevant.append(len(documents))
            documents.append(" ".join(sentences))
    chosen = sorted(chance.sample(range(len(queries)), min(QUERY_COUNT, len(queries))))
    write_task(folder, [queries[n] for n in chosen], documents, [relevant[n] for n in chosen])


def main() -> None:
    """Write the tasks, prune, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--rates", default="0.5,0.8")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    paraphrases(options.data / "mrpc", options.tasks / "mrpc")
    paragraphs(options.data / "wikitext2", options.tasks / "wikitext2")
    tasks = {name: read_retrieval_folder(str(options.tasks / name)) for name in ("mrpc", "wikitext2")}
    for name, task in tasks.items():
        print(f"{name}: {len(task.queries)} queries, {len(task.documents)} documents", flush=True)
    texts, _ = split_examples(
        flatten_pairs(read_examples(options.data / "stsb" / "train.tsv")), options.samples, 200, options.seed
    )
    checkpoint = load_checkpoint(options.model)
    dense = {name: embed(checkpoint, task.examples) for name, task in tasks.items()}
    rows: dict[str, list[str]] = {name: [] for name in tasks}
    for rate in map(float, options.rates.split(",")):
        checkpoint = load_checkpoint(options.model)
        prune_checkpoint(checkpoint, texts, PruningSettings(flops_reduction=rate, seed=options.seed))
        for name, task in tasks.items():
            search = task.search({x.text: row for row, x in enumerate(task.examples)})
            pruned = embed(checkpoint, task.examples)
            rankings = Rankings.of(search, dense[name], pruned)
            cosine, overlap, kept, *_ = embedding_fidelity(dense[name], pruned, rankings)
            metrics = {x.name: x for x in rankings.metrics()}
            if not rows[name]:
                rows[name].append(line(name, "0 %", "", "dense", "", [metrics[x].dense for x in METRICS]))
            shown = [metrics[x].pruned for x in METRICS], [metrics[f"index_{x}"].pruned for x in METRICS]
            rows[name] += [
                line(name, f"{rate:.0%}", f"{cosine.value:.4f}", "embedded again", f"{overlap.value:.4f}", shown[0]),
                line(name, f"{rate:.0%}", "", "index kept", f"{kept.value:.4f}", shown[1]),
            ]
            print(rows[name][-2], rows[name][-1], sep="\n", flush=True)
    print("\n| task | removed | mean cosine | documents | top-10 overlap | nDCG@10 | MRR@10 | recall@10 |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(row for name in tasks for row in rows[name]))


def line(task: str, removed: str, cosine: str, documents: str, overlap: str, metrics: list[float]) -> str:
    """Return a row of the table."""
    return f"| {' | '.join((task, removed, cosine, documents, overlap, *(f'{x:.4f}' for x in metrics)))} |"


if __name__ == "__main__":
    main()
