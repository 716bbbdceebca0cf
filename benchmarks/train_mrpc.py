"""Train a paraphrase classifier on MRPC, for the benchmarks that prune one.

    python benchmarks/train_mrpc.py MODEL DATA OUTPUT

MODEL is the encoder to start from (all-MiniLM-L6-v2), DATA a folder with MRPC's train.tsv and dev.tsv, OUTPUT
where the checkpoint goes. Plain AdamW with a linear decay; prints the accuracy on the development set.
"""

import argparse
import random
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

from kprune_export.evaluation.metrics import accuracy
from pruning.calibration.batches import make_batches
from pruning.calibration.examples import Example, read_examples

LABELS = {0: "not_equivalent", 1: "equivalent"}


def labels_of(examples: list[Example], rows: tuple[int, ...]) -> torch.Tensor:
    """Return the labels of some of the examples."""
    return torch.tensor([int(float(str(examples[row].label))) for row in rows])


def main() -> None:
    """Train, evaluate and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=8e-5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2, id2label=LABELS)
    train, dev = (read_examples(options.data / f"{name}.tsv") for name in ("train", "dev"))
    batches = make_batches(tokenizer, train, 128, options.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01)
    steps = options.epochs * len(batches)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    for epoch in range(options.epochs):
        model.train()
        total = 0.0
        for batch in random.Random(options.seed + epoch).sample(batches, len(batches)):
            loss = model(**batch.inputs, labels=labels_of(train, batch.rows)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += float(loss.detach())
        model.eval()
        logits = torch.empty(len(dev), 2)
        with torch.no_grad():
            for batch in make_batches(tokenizer, dev, 128):
                logits[list(batch.rows)] = model(**batch.inputs).logits
        right = accuracy(logits.numpy(), logits.numpy(), labels_of(dev, tuple(range(len(dev)))).tolist()).dense
        print(f"epoch {epoch + 1}: loss {total / len(batches):.4f}, dev accuracy {right:.2%}", flush=True)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
