import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import pytest
import typer
from typer.testing import CliRunner

from exporters.spec import Shape
from kprune_export.cli.app import app
from kprune_export.cli.setting_options import Settings, completion, with_settings
from kprune_export.errors import RecipeError, SurroundingsError
from kprune_export.recipe.engine import EngineSection
from kprune_export.recipe.gates import GatesSection
from kprune_export.recipe.model import ModelSection
from kprune_export.recipe.recipe import SECTIONS, Recipe
from kprune_export.recipe.settings import Section, Setting, Use, setting_of, uses, values_of
from kprune_export.recipe.target import BUDGET


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
        ("model: a\nxyz: 0.5\n", "has the unknown key 'xyz': kprune-export prune-and-build --help has all"),
        ("flops: 0.5\n", r"the unknown key 'flops' \(did you mean 'flops_reduction'\?\): kprune-export"),
        (
            "sample: 3\nheld-out: 2\nmodel: a\n",
            r"keys, 'held-out' \(did you mean 'held_out'\?\), 'sample' \(did you mean 'samples'\?\): kprune-export",
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
    with pytest.raises(RecipeError, match="The setting 'precision' is not valid: Input should be 'fp32', 'fp16'"):
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


def test_every_setting_is_declared_in_one_section_and_says_what_it_is_for() -> None:
    declared = [name for section in SECTIONS for name in section.model_fields]
    assert declared == list(Recipe.model_fields)
    assert len(declared) == len(set(declared))
    assert all(setting_of(info).help.endswith(".") for info in Recipe.model_fields.values())
    neutral = {name for name, info in Recipe.model_fields.items() if not setting_of(info).uses}
    assert neutral == {"output", "threads"}


class Weather(Section):
    """A section with one setting more than a recipe has."""

    panel: ClassVar[str] = "Weather"

    wind_speed: Annotated[
        Literal["calm", "strong"], Setting("How it blows.", uses(Use.EXPORT), shown="what the forecast says")
    ] = "calm"
    rain_mm: Annotated[tuple[str, ...], Setting("How much it rains.")] = ()


class WindyRecipe(Weather, Recipe):
    """A recipe with that section."""


def test_a_setting_that_is_declared_once_is_known_everywhere(tmp_path: Path) -> None:
    given: list[Mapping[str, Any]] = []

    @with_settings(ModelSection, Weather, required=("model", "output"))
    def command(settings: Settings) -> int:
        """Do something."""
        given.append(settings)
        return 0

    toy = typer.Typer()
    toy.command()(command)
    runner = CliRunner(env={"COLUMNS": "160", "TERM": "dumb"})
    shown = runner.invoke(toy, ["--help"]).output
    assert re.search(r"--wind-speed +calm\|strong +How it blows\.", shown)
    assert "what the forecast says" in shown
    assert "Weather" in shown
    assert runner.invoke(toy, ["m", "-o", "o", "--wind-speed", "strong"]).exit_code == 0
    assert given == [{"model": "m", "output": Path("o"), "wind_speed": "strong"}]  # nothing that was not typed
    found = WindyRecipe.build(write(tmp_path, "wind_speed: strong\nrain_mm: 1,2\n"), {"model": "m", "output": "o"})
    assert (found.wind_speed, found.rain_mm) == ("strong", ("1", "2"))
    assert WindyRecipe(model="m", output=Path("o"), wind_speed="strong").wind_speed == "strong"
    assert "wind_speed: strong" in found.to_yaml()
    assert found.for_record(prunes=False, exports=True, measures=False)["wind_speed"] == "strong"
    assert "wind_speed" not in found.for_record(prunes=True, exports=False, measures=True)
    assert "rain_mm" not in found.for_record(prunes=True, exports=True, measures=True)
    with pytest.raises(RecipeError, match="The setting '--wind-speed' is not valid: Input should be 'calm'"):
        WindyRecipe.build(None, {"model": "m", "output": "o", "wind_speed": "none"}, typed=True)
    with pytest.raises(RecipeError, match="The setting 'wind_speed' is not valid"):
        WindyRecipe.build(write(tmp_path, "wind_speed: none\n"), {"model": "m", "output": "o"}, typed=True)


def test_values_are_completed_from_their_declaration() -> None:
    assert values_of(Recipe.model_fields["precision"]) == ("fp32", "fp16", "bf16", "int8")
    assert values_of(Recipe.model_fields["pooling"]) == ("mean", "cls", "pooler", "none")
    assert "kwon2022" in values_of(Recipe.model_fields["method"])
    assert completion(Recipe.model_fields["precision"])("fp32,f") == ["fp32,fp32", "fp32,fp16"]


def test_commands_take_all_settings_of_what_they_do() -> None:
    commands: dict[str, Any] = cast("Any", typer.main.get_command(app)).commands
    taken = {name: {option.name for option in command.params} for name, command in commands.items()}
    assert set(Recipe.model_fields) <= taken["prune-and-build"]
    assert set(EngineSection.model_fields) <= taken["export"] & taken["sweep"]
    assert set(GatesSection.model_fields) <= taken["validate"] & taken["sweep"]
    assert not set(BUDGET) & taken["sweep"]


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
