import dataclasses
from typing import Any

import yaml

from evovlm.merging._model_card import CardFacts, model_card
from evovlm.recipe.schema import Recipe

RECIPE = Recipe.model_validate(
    {
        "kind": "vlm",
        "base": {"model": "mistralai/Mistral-7B-v0.1", "revision": "0123abc"},
        "sources": [
            {"name": "vlm", "model": "llava-hf/llava-v1.6-mistral-7b-hf"},
            {"name": "ja", "model": "/home/somebody/models/my-japanese"},
        ],
        "owner": "vlm",
        "method": "dare_ties",
        "parameters": {"ja": {"weight": 0.75, "density": 0.5}},
    }
)
FACTS = CardFacts(digest=RECIPE.digest(), version="1.2.3")
APACHE = {"base": "apache-2.0", "vlm": "apache-2.0", "ja": "apache-2.0"}


def front_matter(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    content: dict[str, Any] = yaml.safe_load(head)
    return content


def card(**facts: Any) -> str:
    return model_card(RECIPE, dataclasses.replace(FACTS, **facts))


def test_the_front_matter_is_what_the_hub_reads():
    head = front_matter(card())
    assert head["base_model"] == ["mistralai/Mistral-7B-v0.1", "llava-hf/llava-v1.6-mistral-7b-hf"]
    assert head["base_model_relation"] == "merge"
    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "image-text-to-text"
    assert {"merge", "evovlm"} <= set(head["tags"])


def test_a_folder_of_this_machine_is_no_base_model_on_the_hub():
    assert not any("somebody" in model for model in front_matter(card())["base_model"])


def test_one_licence_for_all_is_the_licence_of_the_merge():
    assert front_matter(card(licences=APACHE))["license"] == "apache-2.0"


def test_licences_that_differ_or_are_unknown_make_it_other():
    for licences in ({}, APACHE | {"ja": None}, APACHE | {"ja": "cc-by-nc-4.0"}):
        text = card(licences=licences)
        assert front_matter(text)["license"] == "other"
        assert "read each source's terms" in text


def test_sources_stand_with_revision_and_licence():
    text = card(licences=APACHE | {"ja": None})
    assert "mistralai/Mistral-7B-v0.1) | 0123abc | apache-2.0 |" in text
    assert "| `ja` | `my-japanese` | not pinned | unknown |" in text


def test_the_recipe_in_the_card_is_the_recipe():
    text = card()
    body = text.split("```yaml\n", 1)[1].split("```", 1)[0]
    assert Recipe.model_validate(yaml.safe_load(body)) == RECIPE
    assert RECIPE.digest() in text
    assert "evovlm merge recipe.yaml OUT" in text


def test_a_language_model_is_loaded_as_one():
    recipe = RECIPE.model_copy(update={"kind": "llm", "owner": None})
    text = model_card(recipe, FACTS)
    assert "AutoModelForCausalLM" in text
    assert "AutoModelForImageTextToText" not in text
    assert "AutoModelForImageTextToText" in card()


def test_inherited_limits_are_told():
    text = card(warnings=("ja.rope_theta: 10000 differs from 1000000, the owner's value is used",))
    for word in ("Inherited faults", "No alignment", "Narrow evaluation", "rope_theta: 10000 differs"):
        assert word in text


def test_what_was_measured_is_a_section_of_its_own():
    assert "## Evaluation\n\n| this model | 51.25 |\n" in card(evaluation="| this model | 51.25 |")
    assert "## Evaluation" not in card()
