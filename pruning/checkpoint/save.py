"""Writing a pruned checkpoint in Hugging Face layout."""

import json
import re
import shutil
import stat
from pathlib import Path

from pruning.checkpoint.companions import known_config, write_companions
from pruning.checkpoint.load import EncoderCheckpoint, quiet_transformers
from pruning.checkpoint.purpose import model_classes
from pruning.checkpoint.source import CONFIG_FILE, PLAN_KEY, POOLING_KEY
from pruning.disk import disk_errors
from pruning.families import modeling_kprune
from pruning.json_file import read_object
from pruning.plan import PruningPlan

_INTEGER_LIST = re.compile(r"\[\s+(\d+(?:,\s+\d+)*)\s+\]")


def save_pruned(checkpoint: EncoderCheckpoint, plan: PruningPlan, folder: Path) -> None:
    """Write a pruned model, its plan, its tokenizer and its pooling into a folder.

    The weights are saved in the dense file's dtype. The tokenizer's vocabulary is copied as it is, and settings are
    written from known keys (`pruning.checkpoint.companions`), so that texts are read exactly as before. A modelling
    file and config.json's ``auto_map`` let plain transformers open the folder with ``trust_remote_code=True``; without
    it, the weights' shapes do not fit.

    Args:
        checkpoint: the checkpoint whose model has been cut to the plan.
        plan: what it keeps.
        folder: where to write; made if need be.

    """
    folder.mkdir(parents=True, exist_ok=True)
    model = checkpoint.model.to(checkpoint.storage_dtype)
    with quiet_transformers(), disk_errors(folder):
        model.save_pretrained(folder)
    mode = stat.S_IMODE((folder / CONFIG_FILE).stat().st_mode)  # of a new file, as the user's umask makes it
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)  # safetensors makes its files private, which a server's account could not read
    config = known_config(read_object(folder / CONFIG_FILE), model)
    config[PLAN_KEY] = plan.model_dump(mode="json")
    code = Path(str(modeling_kprune.__file__))
    classes = {f"AutoModel{ending}": x.__name__ for ending, x in model_classes(model.config).items()}
    config["auto_map"] = {auto: f"{code.stem}.{name}" for auto, name in classes.items()}
    shutil.copyfile(code, folder / code.name)
    if checkpoint.pooling is not None:
        config[POOLING_KEY] = checkpoint.pooling
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(_INTEGER_LIST.sub(_on_one_line, text) + "\n", encoding="utf-8")
    write_companions(checkpoint, folder)


def _on_one_line(match: re.Match[str]) -> str:
    return "[" + ", ".join(re.split(r",\s+", match[1])) + "]"
