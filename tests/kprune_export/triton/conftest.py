"""Bundles to serve, built once, and repositories made of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tritonserver_harness

from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.repository import RepositoryRequest, write_repository

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="session")
def server() -> str:
    reason = tritonserver_harness.missing()
    if reason:
        pytest.skip(reason)
    return str(tritonserver_harness.SERVER)


@pytest.fixture(scope="module")
def embedding_bundle(
    embedder: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("embedder") / "bundle"
    return prune_and_build(make_recipe(embedder, output, texts_file)).output


@pytest.fixture(scope="module")
def classifier_repository(built: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("served") / "classifier"
    write_repository(RepositoryRequest(bundle=built.output, output=output, name="classifier", backend="python"))
    return output


@pytest.fixture(scope="module")
def embedder_repository(embedding_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("served") / "embedder"
    write_repository(RepositoryRequest(bundle=embedding_bundle, output=output, name="embedder", backend="python"))
    return output
