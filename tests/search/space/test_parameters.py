import pytest
from hypothesis import given
from hypothesis import strategies as st

from evovlm.recipe.schema import Recipe
from evovlm.search.space.parameters import encode, express, genes_of, uniform
from evovlm.system.errors import RecipeError


def recipe(**changes: object) -> Recipe:
    content: dict[str, object] = {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math"}],
        "method": "dare_ties",
        "groups": 2,
        "search": {"weight": [0.0, 1.5], "density": [0.2, 1.0]},
    }
    return Recipe.model_validate(content | changes)


def test_there_are_two_genes_a_source_and_group():
    genes = genes_of(recipe(), 8)
    assert len(genes) == 2 * 2 * 4
    assert [gene.name for gene in genes[:5]] == [
        "ja.weight.embeddings",
        "ja.weight.layers 0-3",
        "ja.weight.layers 4-7",
        "ja.weight.head",
        "ja.density.embeddings",
    ]


def test_a_method_that_drops_nothing_has_no_density_genes():
    assert {gene.parameter for gene in genes_of(recipe(method="task_arithmetic"), 8)} == {"weight"}


def test_the_ends_of_the_unit_interval_are_the_bounds():
    genes = genes_of(recipe(), 8)
    low = express(recipe(), genes, [0.0] * len(genes))
    high = express(recipe(), genes, [1.0] * len(genes))
    assert low.of("ja").weight == dict.fromkeys(["embeddings", "layers 0-3", "layers 4-7", "head"], 0.0)
    assert high.of("math").density == dict.fromkeys(["embeddings", "layers 0-3", "layers 4-7", "head"], 1.0)


def test_one_group_gives_plain_numbers():
    whole = recipe(groups="whole")
    genes = genes_of(whole, 8)
    assert express(whole, genes, [0.5, 0.5, 1.0, 0.0]).of("ja").weight == 0.75


@given(st.lists(st.floats(0, 1), min_size=16, max_size=16))
def test_encoding_undoes_expression(points: list[float]):
    genes = genes_of(recipe(), 8)
    again = encode(express(recipe(), genes, points), genes)
    assert again == pytest.approx(points, abs=1e-12)


def test_a_recipe_without_search_has_no_genes():
    with pytest.raises(RecipeError, match="nothing to evolve"):
        genes_of(recipe(search=None), 8)


def test_a_search_that_bounds_nothing_is_refused():
    with pytest.raises(RecipeError, match="nothing to evolve"):
        genes_of(recipe(search={"weight": None, "density": None}), 8)


def test_a_uniform_recipe_has_one_weight_a_source():
    assert uniform(recipe(), {"ja": 0.3, "math": 0.7}).of("math").weight == 0.7
