"""A family's row says what its models are: compared with tiny models of transformers' own classes, and with its files.

That a picture's positions and which tokens see later ones are as its row says is tested with the engines.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from evovlm.merging.check.configuration import ALIKE, check_configuration
from evovlm.models import families
from evovlm.models.configuration import text_config_of
from evovlm.models.families import PLAIN, Family, family_of, family_of_tower
from evovlm.models.layouts import LAYOUTS
from evovlm.models.open_model import OpenModel, without_cross_attention
from tests.text_families import TEXTS
from tests.vlm_families import FAMILIES, OTHER_TOWERS, UNASKED, Made, text_of

pytestmark = pytest.mark.slow  # every family's module of transformers is imported
MODELS = FAMILIES | UNASKED | OTHER_TOWERS
# Text families that are near to one another, and those that no family takes.
KINDS = (*TEXTS, "gemma", "cohere", "qwen3_5_text", "gemma4_text")


@pytest.fixture(scope="module")
def made() -> dict[str, Made]:
    with torch.device("meta"):
        return {name: make() for name, make in MODELS.items()}


def row_of(made: Made) -> Family:
    return family_of(made.model.config.to_dict())


def opened(label: str, config: dict[str, Any]) -> OpenModel:
    _, text = without_cross_attention({}, text_config_of(config))
    layout = next(one for one in LAYOUTS if one.kind == ("vlm" if "vision_config" in config else "llm"))
    nothing: Any = None
    return OpenModel(label, Path("."), config, text, nothing, layout, None, {})


def fits(kind: str, owner: OpenModel) -> bool:
    """Whether a text model of a kind may be merged into the owner's tower, as far as kinds go."""
    text = opened("text", transformers.CONFIG_MAPPING[kind](**dict(list(text_of(kind).items())[1:])).to_dict())
    return not any(one.level == "error" and one.key.endswith("model_type") for one in check_configuration(text, owner))


def test_the_text_models_of_a_row_are_those_that_fit_and_no_others(made: dict[str, Made]):
    found: dict[str, set[str]] = {}
    for one in made.values():
        owner = opened("vlm", one.model.config.to_dict())
        found.setdefault(row_of(one).name, set()).update(kind for kind in KINDS if fits(kind, owner))
    assert set(found) == {family.name for family in families.FAMILIES}
    for family in families.FAMILIES:
        # Kinds that compute the same function fit wherever one of them does.
        alike = {kind for group in ALIKE for kind in group & set(KINDS) if group & set(family.towers)}
        assert set(family.towers) <= found[family.name] <= alike | set(family.towers), family.name


@pytest.mark.parametrize("name", MODELS)
def test_a_tower_is_of_the_row_s_own_kind_or_one_of_its_text_models(name: str, made: dict[str, Made]):
    row, tower = row_of(made[name]), made[name].model.config.get_text_config()
    assert tower.model_type in ((row.own_tower,) if row.own_tower else row.towers)
    assert family_of_tower(tower.to_dict()) == (row if row.own_tower else PLAIN)
    assert made[name].tower in row.towers
    inserted = getattr(tower, "cross_attention_layers", None)
    assert (row.inserted == "cross_attention_layers") == (inserted is not None)


@pytest.mark.parametrize("name", MODELS)
def test_a_flat_configuration_is_read_as_the_tower_s_where_the_row_says_so(name: str, made: dict[str, Made]):
    """As the hub has Qwen2-VL and Qwen2.5-VL: transformers itself takes them from there."""
    row, config = row_of(made[name]), made[name].model.config.to_dict()
    flat = {key: value for key, value in config.items() if key != "text_config"}
    flat |= {key: value for key, value in config["text_config"].items() if key in ("hidden_size", "intermediate_size")}
    if row.flat:
        read = type(made[name].model.config).from_dict(flat).get_text_config()
        mine = text_config_of(flat)
        assert (read.model_type, read.hidden_size) == (mine["model_type"], mine["hidden_size"])
        assert read.hidden_size == config["text_config"]["hidden_size"]
    else:
        assert text_config_of(flat) is flat


def test_a_row_says_whether_a_processor_counts_by_its_own_settings(made: dict[str, Made]):
    counting = set()
    for name in FAMILIES:
        own = made[name].processor
        # LLaVA's processors alone have both: the size of patches, and how many features the tower has besides.
        if hasattr(own, "num_additional_image_tokens") and hasattr(own, "patch_size"):
            counting.add(row_of(made[name]).name)
    assert counting == {family.name for family in families.FAMILIES if family.counted}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_finds_places_in_a_grid_where_the_row_says_so(name: str, made: dict[str, Made]):
    assert hasattr(made[name].model.model, "get_rope_index") == (row_of(made[name]).positions == "grid")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_says_whether_features_begin_with_the_whole_picture_and_a_row_s_end(name: str, made: dict[str, Made]):
    model = made[name].model.model
    tiled = hasattr(model, "image_newline") and hasattr(model, "pack_image_features")
    onevision = name == "llava_onevision"  # it shrinks pictures of many tiles, and takes no part of the features
    assert row_of(made[name]).base_tile == (tiled and not onevision)


def test_a_row_with_another_value_is_noticed(monkeypatch: pytest.MonkeyPatch, made: dict[str, Made]):
    """The rows are what is read: without Llama 3.2 Vision's, its inserted layers are counted as a Llama's."""
    config = made["mllama"].model.config.to_dict()
    assert opened("vlm", config).text_config["num_hidden_layers"] == 3
    rows = [replace(row, inserted="", own_tower="") for row in families.FAMILIES]
    monkeypatch.setattr(families, "FAMILIES", rows)
    assert opened("vlm", config).text_config["num_hidden_layers"] == 5


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_says_whether_the_processor_ends_a_prompt_by_a_line_break(name: str, made: dict[str, Made]):
    asked = f"{made[name].mark}what is this"
    found = made[name].processor(text=asked, images=Image.new("RGB", (60, 60)), return_tensors="pt")
    said = made[name].processor.tokenizer.decode(found["input_ids"][0])
    assert said.endswith("what is this\n" if row_of(made[name]).ends_line else "what is this")
