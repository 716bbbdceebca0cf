"""Texts sent to a served model: the model.py that a repository holds is run as Triton's Python backend runs it.

There is no server here: the module that Triton gives to a model is put in its place, with the same three classes.
"""

import importlib.util
import os
import resource
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

from break_in_attempts.checks import Broken, clean, refused
from break_in_attempts.scene import Kind, Scene, each, expect


class _Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


class _Error(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)


class _Response:
    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        self.outputs = {x.name(): x.as_numpy() for x in output_tensors}
        self.error = error


def _backend() -> types.ModuleType:
    module: Any = types.ModuleType("triton_python_backend_utils")
    module.Tensor, module.TritonError, module.InferenceResponse = _Tensor, _Error, _Response
    module.TritonModelException = _Error
    module.get_input_tensor_by_name = lambda request, name: request.get(name)
    return module  # type: ignore[no-any-return]


def _tokenizer(repository: Path) -> tuple[Any, int]:
    """Return the served tokenizer, and the most tokens that it may give."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    folder = repository / "encoder-tokenizer"
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    text = json_format.MessageToJson(config, preserving_proto_field_name=True)
    sys.modules["triton_python_backend_utils"] = _backend()
    spec = importlib.util.spec_from_file_location("served", folder / "1" / "model.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(folder)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_config": text, "model_repository": str(folder), "model_version": "1"})
    return model, int(config.parameters["max_tokens"].string_value)


def _texts(name: str) -> list[bytes]:
    texts = {
        "5 MB of words": b"good film " * 500_000,
        "5 MB without a space": b"x" * 5_000_000,
        "5 MB of spaces": b" " * 5_000_000,
        "5 MB of accents": "é".encode() * 2_500_000,
        "5 MB of combining marks": ("a" + "\u0301" * 2_500_000).encode(),
        "5 MB of emoji": "🙂".encode() * 1_250_000,
        "5 MB of Chinese": "好".encode() * 1_600_000,
        "5 MB of punctuation": b"." * 5_000_000,
        "8,000 words": b"good " * 8000,
        "nothing": b"",
        "a null": b"\x00",
        "controls": bytes(range(32)) * 10,
        "special tokens": b"[CLS] [SEP] [PAD] [MASK] [UNK]" * 1000,
        "not UTF-8": b"\xff\xfe",
        "half an emoji": b"good \xed\xa0\xbd film",
    }
    return [texts[name]]


def long_text(scene: Scene, name: str) -> None:
    """One text: no more tokens than the model reads, at the cost of a usual one."""
    import numpy as np

    model, limit = _tokenizer(scene.made.repository)
    content = _texts(name)
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [response] = model.execute([{"text": _Tensor("text", np.array([[x] for x in content], dtype=object))}])
    seconds, grown = time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if name in ("not UTF-8", "half an emoji"):
        expect(response.error is not None, "bytes that are no text were taken")
        return
    expect(response.error is None, f"refused: {response.error}")
    tokens = response.outputs["input_ids"].shape[1]
    if tokens > limit:
        raise Broken(f"{tokens} tokens, where the model reads {limit}")
    if seconds > 1:
        raise Broken(f"it took {seconds:.1f} seconds")
    if grown > 64 * 1024:
        raise Broken(f"it took {grown / 1024:.0f} MiB")


def batch(scene: Scene, count: int) -> None:
    """Many texts at once, one of them long: the others get what they get alone."""
    import numpy as np

    model, limit = _tokenizer(scene.made.repository)
    short = [b"a good film", b"bad", b"the plot of a story"] * count
    requests = [{"text": _Tensor("text", np.array([[x]], dtype=object))} for x in (*short, b"good " * 100_000)]
    answers = model.execute(requests)
    for text, answer in zip(short, answers, strict=False):
        [alone] = model.execute([{"text": _Tensor("text", np.array([[text]], dtype=object))}])
        same = (alone.outputs["input_ids"] == answer.outputs["input_ids"]).all()
        expect(bool(same), "a text has other tokens beside a long one")
    expect(answers[-1].outputs["input_ids"].shape[1] <= limit, "more tokens than the model reads")


_SERVER = """#!/bin/sh
echo $$ >> {pids}
sleep 300 &
echo $! >> {pids}
wait
"""


def check_ended(scene: Scene, name: str) -> None:
    """`serve-check` ended by a signal while its server starts: no process of the server is left."""
    server, pids = scene.folder / "tritonserver", scene.folder / "pids"
    server.write_text(_SERVER.format(pids=pids))
    server.chmod(0o755)

    def send(pid: int) -> None:
        end = time.monotonic() + 60
        while (not pids.exists() or len(pids.read_text().split()) < 2) and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(pid, getattr(signal, name))

    command = ("serve-check", scene.made.repository, "--server", server, "--texts", scene.made.texts)
    scene.run(*command, real=True, during=send)
    expect(pids.exists(), "the server was not started")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        running = [pid for pid in pids.read_text().split() if _runs(int(pid))]
        if not running:
            return
        time.sleep(0.05)
    subprocess.run(["kill", "-9", *running], check=False)
    raise Broken(f"{len(running)} processes of the server are left")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def servers(scene: Scene, what: str) -> None:
    """Servers that are none: one sentence."""
    server = scene.folder / "tritonserver"
    if what == "a server that ends":
        server.write_text("#!/bin/sh\necho evil\x1b[2J >&2\nexit 3\n")
        server.chmod(0o755)
    elif what == "no program":
        server.write_text("x")
    elif what == "a folder":
        server.mkdir()
    command: tuple[object, ...] = ("serve-check", scene.made.repository, "--server", server)
    if what == "an address where nobody is":
        command = (*command[:2], "--url", "localhost:9", "--grpc-url", "localhost:9", "--timeout", 2)
    elif what == "no repository":
        command = ("serve-check", scene.made.classifier, "--server", server)
    refused(scene.run(*command, "--texts", scene.made.texts, limit=60), codes=(2, 4, 5))


def names_of_models(scene: Scene, name: str) -> None:
    """Names of models that lead out of the repository, or that Triton does not take."""
    command = ("triton", scene.made.bundle, "--backend", "python", "-o", scene.out, f"--name={name}")
    ended = scene.run(*command)
    refused(ended, codes=(0, 2))
    expect(ended.code == 2 or name == "con", "the name was taken")
    clean(scene.run(*command[:-1], "--name", "good"))


KINDS = (
    Kind(
        "a long or odd text",
        "no more tokens than the model reads, in time",
        each(
            long_text,
            (
                "5 MB of words",
                "5 MB without a space",
                "5 MB of spaces",
                "5 MB of accents",
                "5 MB of combining marks",
                "5 MB of emoji",
                "5 MB of Chinese",
                "5 MB of punctuation",
                "8,000 words",
                "nothing",
                "a null",
                "controls",
                "special tokens",
                "not UTF-8",
                "half an emoji",
            ),
        ),
    ),
    Kind(
        "a long text beside others", "they are answered as alone", each(batch, {f"{n} others": (n,) for n in (1, 20)})
    ),
    Kind(
        "serve-check ended by a signal",
        "its server ends too",
        each(check_ended, ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGKILL")),
    ),
    Kind(
        "servers that are none",
        "one sentence",
        each(servers, ("a server that ends", "no program", "a folder", "an address where nobody is", "no repository")),
    ),
    Kind(
        "names of models", "refused", each(names_of_models, ("../x", "/x", "a/b", "", "..", "a b", "a\nb", "x" * 300))
    ),
)
