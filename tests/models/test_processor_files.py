"""A processor that counts a picture's places otherwise than the model makes features is refused, both values named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evovlm.engines.hf import Engine
from evovlm.merging.check import check_recipe
from evovlm.models.open_model import open_model
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CheckpointError
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = save_llm(folder / "base", rows=600, tokenizer=make_tokenizer(600))
    tokenizer = make_tokenizer(600, added=("<image>", "<pad>"))
    for name, next_ in (("llava", False), ("next", True)):
        save_vlm(folder / name, next_=next_, rows=640, tokenizer=tokenizer, ancestor=base, image_seq_length=4)
    return folder


def changed(models: Path, name: str, folder: Path, file: str, edit: Edit) -> Path:
    shutil.copytree(models / name, folder)
    content = json.loads((folder / file).read_text())
    edit(content)
    (folder / file).write_text(json.dumps(content))
    return folder


def of_images(**values: Any) -> Edit:
    return lambda content: content["image_processor"].update(values)


@pytest.mark.parametrize("name", ["llava", "next"])
@pytest.mark.parametrize(
    ("file", "edit", "key", "parts"),
    [
        ("processor_config.json", lambda c: c.update(patch_size=7), "patch_size", ["7", "14"]),
        ("processor_config.json", lambda c: c.update(vision_feature_select_strategy="full"), None, ["full", "default"]),
        ("processor_config.json", lambda c: c.update(num_additional_image_tokens=0), None, ["0", "1 in a clip"]),
        ("processor_config.json", lambda c: c.update(image_token="<picture>"), "image_token", ["<picture>"]),
        ("processor_config.json", of_images(crop_size={"height": 56, "width": 56}), "image_size", ["56", "28"]),
        ("processor_config.json", of_images(do_center_crop=False, size={"height": 56, "width": 28}), None, ["56 x 28"]),
        ("config.json", lambda c: c.update(vision_feature_select_strategy="full"), None, ["default", "full"]),
    ],
)
def test_a_processor_that_differs_is_refused_by_check_and_engine_in_the_same_words(
    models: Path, tmp_path: Path, name: str, file: str, edit: Edit, key: str | None, parts: list[str]
):
    folder = changed(models, name, tmp_path / "vlm", file, edit)
    with pytest.raises(CheckpointError) as caught:
        Engine.load(folder)
    recipe = Recipe.model_validate(
        {"kind": "vlm", "owner": "vlm", "method": "linear", "sources": [{"name": "vlm", "model": str(folder)}]}
    )
    found = check_recipe(recipe, None, [open_model("vlm", str(folder), None, tmp_path)])
    errors = [finding for finding in found if finding.level == "error"]
    assert len(errors) == 1, errors
    assert key is None or errors[0].key == f"sources.vlm.{key}"
    assert str(caught.value) == f"{folder}: {errors[0].text}"
    for part in (*parts, "processor_config.json"):
        assert part in errors[0].text


def test_settings_that_old_files_omit_are_not_compared(models: Path, tmp_path: Path):
    def omit(content: dict[str, Any]) -> None:
        for key in ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"):
            del content[key]

    assert Engine.load(changed(models, "llava", tmp_path / "old", "processor_config.json", omit)).sees
