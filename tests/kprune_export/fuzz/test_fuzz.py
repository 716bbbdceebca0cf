"""Damaged and hostile files, given to the commands that read them.

Whatever a file holds: a documented exit code, one sentence, no traceback, nothing changed outside the output folder.
``KPRUNE_FUZZ_EXAMPLES`` sets how many files of each kind are tried; `benchmarks/fuzz.py` tries a thousand.
"""

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fuzz_mutations as mutations
import pyarrow.parquet
import pytest
import yaml
from command_line import run_cli
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fuzz_mutations import COMPLAINTS, VERDICTS, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from kprune_export.bundle.manifest import Manifest, record_files
from kprune_export.errors import ExitCode, exit_code_of
from kprune_export.pipeline.run import Outcome
from pruning.calibration.examples import Columns, read_examples

LONGEST = 4000
"""Characters of an error: a sentence, and a path or a value in it."""
Cli = Callable[..., int]


@dataclass
class Area:
    """A folder that is watched.

    Attributes:
        root: the folder.
        bundle: a bundle in it.
        dense: a dense checkpoint in it.
        cli: runs a command in this process.
        seen: how many files were tried and how they ended, by kind.

    """

    root: Path
    bundle: Path
    dense: Path
    cli: Cli
    seen: dict[str, dict[int, int]] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """The only folder that a command may write to."""
        return self.root / "output"

    @property
    def outside(self) -> str:
        """What hostile names point at."""
        return str(self.root / mutations.CANARY)

    def loading(self, checkpoint: Path) -> tuple[object, ...]:
        """Return a command that loads a checkpoint, and then finds no texts."""
        return "prune", checkpoint, "-o", self.output, "--calibration", "one.txt"

    def snapshot(self) -> dict[str, str]:
        """Return what lies in the area, outside the output folder."""
        return {
            str(path): str(path.readlink()) if path.is_symlink() else _digest(path)
            for path in self.root.rglob("*")
            if not path.is_relative_to(self.output)
        }

    def run(self, kind: str, *arguments: object, verdicts: Collection[int] = ()) -> None:
        """Run a command and check how it ended: with a complaint, or where it may come to a verdict with that."""
        before = self.snapshot()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = self.cli(*arguments)
        said = err.getvalue()
        counts = self.seen.setdefault(kind, {})
        counts[code] = counts.get(code, 0) + 1
        assert code in COMPLAINTS or code in verdicts, said
        assert "Traceback" not in said
        errors = [line for line in said.splitlines() if line.startswith("Error: ")]
        assert len(errors) == (code != 0 and not out.getvalue()), said  # verify prints what differs
        if errors:
            assert said.endswith(errors[0] + "\n"), said  # it is one line, and the last
            assert len(said) < LONGEST
        assert self.snapshot() == before
        shutil.rmtree(self.output, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


@pytest.fixture(scope="module")
def area(built: Outcome, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Area]:
    root = tmp_path_factory.mktemp("fuzz")
    canary = root / mutations.CANARY
    canary.mkdir()
    (canary / "precious.txt").write_text("precious")
    (root / "here").mkdir()
    (root / "here" / "one.txt").write_text("one text, which is too few to calibrate on", encoding="utf-8")
    bundle = Path(shutil.copytree(built.output, root / "bundle"))
    dense = Path(shutil.copytree(classifier, root / "dense"))
    found = Area(root, bundle, dense, run_cli)
    with contextlib.chdir(root / "here"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setattr("datasets.config.HF_HUB_OFFLINE", True)
        yield found
    print(f"\nfuzzed, with exit codes: {json.dumps(found.seen)}")


@contextlib.contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    """Give a file other bytes for a while."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextlib.contextmanager
def agreeing(bundle: Path, name: str) -> Iterator[None]:
    """Let a bundle's manifest list a file as it now is."""
    manifest = Manifest.of_bundle(bundle)
    [new] = record_files(bundle, [name], reproducible=True)
    files = tuple(new if file.path == name else file for file in manifest.files)
    with replaced(bundle / "manifest.json", manifest.model_copy(update={"files": files}).to_json().encode()):
        yield


@fuzzed
@given(data=st.data())
def test_a_checkpoints_config(area: Area, data: st.DataObject) -> None:
    for path in (area.dense, area.bundle / "checkpoint"):
        config = path / "config.json"
        with replaced(config, data.draw(mutations.changed_json(config.read_bytes(), area.outside))):
            area.run("config.json, inspect", "inspect", path)
            area.run("config.json, load", *area.loading(path))


@fuzzed
@given(data=st.data())
def test_a_plan(area: Area, data: st.DataObject) -> None:
    plan = area.bundle / "plan.json"
    changed = data.draw(mutations.changed_json(plan.read_bytes(), area.outside))
    with replaced(plan, changed), agreeing(area.bundle, "plan.json"):
        area.run("plan.json, inspect", "inspect", area.bundle)
        area.run("plan.json, diff", "diff", area.bundle, area.bundle)
    config = area.bundle / "checkpoint" / "config.json"
    values = json.loads(config.read_bytes())
    values["kprune"] = data.draw(mutations.changed_values(values["kprune"], area.outside))
    with replaced(config, json.dumps(values).encode()):
        area.run("plan in config.json, load", *area.loading(config.parent))


@fuzzed
@given(data=st.data())
def test_a_manifest(area: Area, data: st.DataObject) -> None:
    manifest = area.bundle / "manifest.json"
    with replaced(manifest, data.draw(mutations.changed_json(manifest.read_bytes(), area.outside))):
        area.run("manifest.json, verify", "verify", area.bundle)
        area.run("manifest.json, inspect", "inspect", area.bundle)
        area.run("manifest.json, diff", "diff", area.bundle, area.bundle)
        area.run("manifest.json, validate", "validate", area.bundle, "--calibration", "one.txt", "-o", area.output)
        area.run("manifest.json, triton", "triton", area.bundle, "--backend", "python", "-o", area.output)


RECIPE = {
    "flops_reduction": 0.4,
    "samples": 50,
    "held_out": 20,
    "seed": 3,
    "sequence_length": 16,
    "method": "kprune",
    "ridge": 0.1,
    "device": "cpu",
    "offload": False,
    "runtime": ["onnxruntime"],
    "precision": ["fp32", "int8"],
    "shapes": ["1x8", "2x16"],
    "profile": ["min=1x1,opt=2x8,max=4x16"],
    "compute_capability": ["8.6"],
    "optimization_level": 3,
    "timing_cache": "cache.bin",
    "timing_seconds": 0.1,
    "threads": 2,
    "pooling": None,
    "text_column": "text",
    "min_speedup": 1.1,
    "min_agreement": 0.9,
    "max_size_mib": 80.5,
}


@fuzzed
@given(data=st.data())
def test_a_recipe(area: Area, data: st.DataObject) -> None:
    file = area.root / "here" / "recipe.yaml"
    values = {**RECIPE, "model": str(area.dense), "calibration": "one.txt", "evaluation": "one.txt"}
    file.write_bytes(data.draw(mutations.changed_yaml(yaml.safe_dump(values).encode(), area.outside)))
    area.run("recipe", "prune-and-build", "--recipe", file, "-o", area.output, verdicts=VERDICTS)


@fuzzed
@given(data=st.data())
def test_gates(area: Area, data: st.DataObject) -> None:
    file = area.root / "here" / "gates.yaml"
    values = {"min_speedup": 1.5, "min_agreement": 0.9, "min_metric": 0.8, "max_size_mib": 80}
    file.write_bytes(data.draw(mutations.changed_yaml(yaml.safe_dump(values).encode(), area.outside)))
    with_texts = ("--calibration", "one.txt", "-o", area.output)
    area.run("gates", "prune-and-build", area.dense, "--gates", file, *with_texts)


@fuzzed
@given(data=st.data())
def test_weights(area: Area, data: st.DataObject) -> None:
    for folder in (area.dense, area.bundle / "checkpoint"):
        weights = folder / "model.safetensors"
        with replaced(weights, data.draw(mutations.changed_safetensors(weights.read_bytes(), area.outside))):
            area.run("model.safetensors, inspect", "inspect", folder)
            area.run("model.safetensors, load", *area.loading(folder))


@fuzzed
@given(data=st.data())
def test_an_index_of_weights(area: Area, data: st.DataObject) -> None:
    folder = area.root / "sharded"
    if not folder.exists():
        shutil.copytree(area.dense, folder)
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        with safe_open(folder / "model-1.safetensors", framework="pt") as file:
            names = dict.fromkeys(file.keys(), "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    index = folder / "model.safetensors.index.json"
    with replaced(index, data.draw(mutations.changed_json(index.read_bytes(), area.outside))):
        area.run("index, inspect", "inspect", folder)
        area.run("index, load", *area.loading(folder))


@pytest.mark.parametrize("name", ["parity.json", "fidelity.json", "latency.json", "onnx/graphs.json"])
@fuzzed
@given(data=st.data())
def test_a_report(area: Area, data: st.DataObject, name: str) -> None:
    path = area.bundle / name
    changed = data.draw(mutations.changed_json(path.read_bytes(), area.outside))
    with replaced(path, changed), agreeing(area.bundle, name):
        area.run(f"{name}, diff", "diff", area.bundle, area.bundle)
        if name != "fidelity.json":  # which serving does not read
            area.run(f"{name}, triton", "triton", area.bundle, "--backend", "python", "-o", area.output)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@fuzzed
@given(data=st.data())
def test_a_tokenizer(area: Area, data: st.DataObject, name: str) -> None:
    path = area.dense / name
    with replaced(path, data.draw(mutations.changed_json(path.read_bytes(), area.outside))):
        area.run(name, *area.loading(area.dense))


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"])
@fuzzed
@given(data=st.data())
def test_what_an_embedder_declares(area: Area, data: st.DataObject, name: str, embedder: Path) -> None:
    folder = area.root / "embedder"
    if not folder.exists():
        shutil.copytree(embedder, folder)
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": false}')
    path = folder / name
    with replaced(path, data.draw(mutations.changed_json(path.read_bytes(), area.outside))):
        area.run(f"{name}, inspect", "inspect", folder)
        area.run(f"{name}, load", *area.loading(folder))


@fuzzed
@given(data=st.data())
def test_the_record_of_a_triton_repository(area: Area, data: st.DataObject) -> None:
    made = area.root / "repository"
    command = ("triton", area.bundle, "--backend", "python", "-o")
    if not made.exists():
        assert area.cli(*command, made) == 0
    record = made / "kprune-triton.json"
    changed = data.draw(mutations.changed_json(record.read_bytes(), area.outside))
    shutil.copytree(made, area.output)
    (area.output / record.name).write_bytes(changed)
    area.run("kprune-triton.json, triton", *command, area.output)
    with replaced(record, changed):
        area.run("kprune-triton.json, serve-check", "serve-check", made, "--server", area.root / "no-server")


@fuzzed
@given(data=st.data())
def test_a_signature_and_a_key(area: Area, data: st.DataObject) -> None:
    private, public, signature = area.root / "private.pem", area.root / "public.pem", area.bundle / "signature.sig"
    if not private.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    if not signature.exists():
        assert area.cli("sign", area.bundle, "--private-key", private) == 0
    with replaced(signature, data.draw(mutations.changed_json(signature.read_bytes(), area.outside))):
        area.run("signature.sig", "verify", area.bundle, "--public-key", public)
    with replaced(public, data.draw(mutations.changed_bytes(public.read_bytes()))):
        area.run("public key", "verify", area.bundle, "--public-key", public)


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "tsv", "parquet"])
@fuzzed
@given(data=st.data())
def test_texts(area: Area, data: st.DataObject, kind: str) -> None:
    table = pyarrow.table({"text": [f'text {n}, or "so"' for n in range(9)], "label": [n % 2 for n in range(9)]})
    whole = io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, whole)
    else:
        rows = table.to_pylist()
        lines = {
            "txt": [row["text"] for row in rows],
            "jsonl": [json.dumps(row) for row in rows],
            "csv": ["text,label", *(f'"{row["text"]}",{row["label"]}'.replace('"so"', '""so""') for row in rows)],
            "tsv": ["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in rows)],
        }
        whole.write("\n".join(lines[kind]).encode())
    file = area.root / "here" / f"texts.{kind}"
    file.write_bytes(data.draw(mutations.changed_bytes(whole.getvalue())))
    code: ExitCode | None = ExitCode.OK
    try:
        read_examples(str(file), Columns(None, None, None))
    except Exception as error:
        code = exit_code_of(error)
    assert code in COMPLAINTS
    counts = area.seen.setdefault(f"texts.{kind}", {})
    counts[code] = counts.get(code, 0) + 1
