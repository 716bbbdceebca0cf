import re
from pathlib import Path
from typing import get_args

import pytest

from exporters.spec import Shape
from kprune_export.cli import options, retrieval_options, target_options
from kprune_export.errors import RecipeError, SurroundingsError
from kprune_export.recipe.recipe import Recipe


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "model: a\noutput: b\nflops_reduction: 0.7\nshapes: [1x8, 2x16]\n")
    recipe = Recipe.build(path, {"flops_reduction": 0.3, "output": Path("c")})
    assert (recipe.model, recipe.output, recipe.flops_reduction) == ("a", Path("c"), 0.3)
    assert recipe.parsed_shapes == (Shape(1, 8), Shape(2, 16))
    assert Recipe.build(path, {"shapes": "3x4, 1x1"}).parsed_shapes == (Shape(3, 4), Shape(1, 1))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model: a\nxyz: 0.5\n", "has the unknown key 'xyz': known are model, output, flops_reduction"),
        ("flops: 0.5\n", r"the unknown key 'flops' \(did you mean 'flops_reduction'\?\): known are"),
        (
            "sample: 3\nheld-out: 2\nmodel: a\n",
            r"has unknown keys, 'held-out' \(did you mean 'held_out'\?\), 'sample' \(did you mean 'samples'\?\): known",
        ),
        ("- a\n", "is not a mapping of settings to values"),
        ("1: a\n", "is not a mapping of settings to values"),
        ("a: [\n", "is not YAML"),
        ("model: a\n", "'output' is missing: give it with --output, or in a recipe"),
        ("output: a\n", "'model' is missing: give it after the command's name, or in a recipe"),
        ("model: a\noutput: b\nsamples: none\n", "'samples' is not valid: .*'none' was given"),
        ("model: a\noutput: b\nsamples: 0\n", "'samples' is not valid"),
        ("model: a\noutput: b\nshapes: []\n", "'shapes' is not valid"),
        ("model: a\noutput: b\npooling: max\n", "'pooling' is not valid: .*'mean', 'cls', 'pooler' or 'none'"),
        ("model: a\noutput: b\nmin_speedup: -1\n", "'min_speedup' is not valid"),
        (
            "model: a\noutput: b\ntarget_speedup: .inf\n",
            "'target_speedup' is not valid: .* finite number",
        ),
        ("model: a\noutput: b\nmin_agreement: .nan\n", "'min_agreement' is not valid: .* finite number"),
        (
            "model: a\noutput: b\nsequence_length: 1000000000000\n",
            "'sequence_length' is not valid: .* to 1000000",
        ),
        ("model: a\noutput: b\nridge: 1.0e+308\n", "'ridge' is not valid: .* less than or equal to 1000000000"),
        ("model: a\noutput: b\ntemperature: 1.0e+308\n", "'temperature' is not valid"),
        ("model: a\noutput: b\nalign: 100000000000000000000\n", "'align' is not valid"),
        ("seed: 1\nseed: 2\n", "the key 'seed' is there twice .* line 2"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", r"merge keys \(<<\) are not read.* line 3"),
        ("seed: " + "[" * 60_000, "is not YAML: values are nested more than 8 deep"),
        ("calibration: " + "x" * 70_000, "is larger than 64 KiB, so it holds more than settings"),
    ],
)
def test_bad_recipes_are_one_sentence(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        Recipe.build(write(tmp_path, text), {})
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.build(tmp_path / "nowhere.yaml", {})


def test_its_yaml_makes_it_again(tmp_path: Path) -> None:
    recipe = Recipe.build(None, {"model": "m", "output": "o", "seed": 3, "shapes": "1x8", "min_speedup": 1.5})
    assert Recipe.build(write(tmp_path, recipe.to_yaml()), {"output": "o"}) == recipe


def test_the_record_holds_what_the_command_uses() -> None:
    recipe = Recipe.build(None, {"model": "m", "output": "o"})
    common = {"model", "allow_pickle", "pooling", "text_column", "pair_column"}
    assert set(recipe.for_record(prunes=False, exports=False, measures=False)) == common
    exported = recipe.for_record(prunes=False, exports=True, measures=False)
    assert set(exported) == common | {"runtime", "precision"}
    engines = set(
        Recipe.build(None, {"model": "m", "output": "o", "runtime": "tensorrt"}).for_record(
            prunes=False, exports=True, measures=False
        )
    ) - set(exported)
    assert {"profile", "workspace_mib", "tf32"} < engines
    quantized = Recipe.build(None, {"model": "m", "output": "o", "precision": "fp32,int8"})
    assert set(quantized.for_record(prunes=False, exports=True, measures=False)) - set(exported) == {
        "calibration",
        "samples",
        "seed",
    }
    everything = recipe.for_record(prunes=True, exports=True, measures=True)
    assert set(everything) == set(Recipe.model_fields) - {"output", "threads"} - engines


def test_variants_are_every_runtime_in_every_precision() -> None:
    recipe = Recipe.build(
        None, {"model": "m", "output": "o", "runtime": ["tensorrt", "onnxruntime"], "precision": ["fp16,fp32"]}
    )
    names = ["tensorrt-fp16", "tensorrt-fp32", "onnxruntime-fp16", "onnxruntime-fp32"]
    assert [str(variant) for variant in recipe.variants] == names
    with pytest.raises(RecipeError, match="The setting 'precision.0' is not valid: Input should be 'fp32', 'fp16'"):
        Recipe.build(None, {"model": "m", "output": "o", "precision": "fp8"})


def test_engine_settings_come_from_the_recipe() -> None:
    asked = {
        "profile": ["min=1x1,opt=1x8,max=2x16", "min=1x1,opt=8x16,max=8x16"],
        "optimization_level": 5,
        "tf32": True,
    }
    engine = Recipe.build(None, {"model": "m", "output": "o"} | asked).engine
    assert [str(profile) for profile in engine.profiles] == asked["profile"]
    assert (engine.optimization_level, engine.tf32, engine.refit) == (5, True, False)


def test_every_setting_has_a_flag_with_the_default_that_help_shows() -> None:
    flags = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): value
        for name, value in (vars(options) | vars(target_options) | vars(retrieval_options)).items()
    }
    for name, field in Recipe.model_fields.items():
        shown = getattr(get_args(flags[name])[1], "show_default", None)
        if isinstance(shown, str) and re.match(r"[\d.x,]+$", shown):
            default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
            assert str(default) == shown, name


def test_a_merge_key_copies_nothing(tmp_path: Path) -> None:
    """Eight lines that would be a hundred million keys."""
    lines = [
        "a0: &a0 {k: v}",
        *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k{n}: v}}" for n in range(1, 9)),
    ]
    with pytest.raises(RecipeError, match="merge keys"):
        Recipe.build(write(tmp_path, "\n".join(lines)), {})


def test_aliases_are_read(tmp_path: Path) -> None:
    recipe = Recipe.build(write(tmp_path, "shapes: &s [1x8]\ntarget_shapes: *s\n"), {"model": "m", "output": "o"})
    assert recipe.shapes == recipe.target_shapes == ("1x8",)


def test_a_name_in_a_recipe_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(SurroundingsError, match="is not UTF-8"):
        Recipe.build(write(tmp_path, 'calibration: "\\ud83d"\n'), {"model": "m", "output": "o"})
