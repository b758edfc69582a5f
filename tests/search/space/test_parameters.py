from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from evovlm.methods import METHODS, OwnOptions
from evovlm.recipe.schema import Recipe
from evovlm.search.space.parameters import encode, express, genes_of, unfit_options, uniform
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


class Turning(OwnOptions):
    share: float = Field(default=0.5, ge=0.0, le=1.0, description="how far to turn")
    turns: int = Field(default=1, ge=1, le=9, description="how often")
    flatten: bool = Field(default=True, description="turn the whole tensor as one vector")


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> str:
    row = replace(METHODS["task_arithmetic"], name="turn", options=Turning)
    monkeypatch.setitem(METHODS, "turn", row)
    monkeypatch.setitem(METHODS, "prepared", replace(row, name="prepared", prepare=lambda base, sources, own: sources))
    return "turn"


def searching(method: str, **options: object) -> Recipe:
    return recipe(method=method, search={"weight": [0.0, 1.0], "density": None, "options": options})


def test_options_with_bounds_have_a_gene_each_after_all_others(turn: str):
    found = searching(turn, **{"share": [0.2, 0.6], "turns": [1, 5], "lambda": [0.5, 1.5]})
    genes = genes_of(found, 8)
    assert [gene.name for gene in genes[-3:]] == ["options.share.whole", "options.turns.whole", "options.lambda.whole"]
    assert genes[:-3] == genes_of(searching(turn), 8)
    point = [0.5] * (len(genes) - 3) + [0.25, 0.6, 1.0]
    merged = express(found, genes, point)
    assert merged.options.own == {"share": pytest.approx(0.3), "turns": 3}
    assert merged.options.lambda_ == 1.5
    assert encode(merged, genes) == pytest.approx([*point[:-3], 0.25, 0.5, 1.0])
    assert encode(found, genes)[-3:] == pytest.approx((0.75, 0.0, 0.5))  # the defaults


def test_a_gene_at_an_options_default_gives_the_recipe_without_it(turn: str):
    found = searching(turn, share=[0.0, 1.0])
    genes = genes_of(found, 8)
    assert express(found, genes, [0.5] * len(genes)).digest() == express(found, genes[:-1], [0.5] * 8).digest()


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("turn", {"flatten": [0, 1]}, r"search.options.flatten: turn has no such number; choose from \['lambda', 'sh"),
        ("turn", {"shares": [0, 1]}, r"search.options.shares: turn has no such number"),
        ("turn", {"share": [0.5, 1.5]}, r"search.options.share: 1.5: Input should be less than or equal to 1"),
        ("turn", {"turns": [0, 3]}, r"search.options.turns: 0: Input should be greater than or equal to 1"),
        ("della", {"epsilon": [0.1, 1.0]}, r"search.options.epsilon: 1: Input should be less than 1"),
        ("ties", {"epsilon": [0.1, 0.2]}, r"search.options.epsilon: ties has no such number; choose from \['lambda'\]"),
        (
            "prepared",
            {"share": [0.1, 0.2]},
            r"search.options.share: task vectors are prepared with it, once",
        ),
        ("slerp", {"lambda": [0.1, 0.2]}, r"search.options.lambda: slerp has no such number; remove it"),
    ],
)
def test_an_option_that_cannot_be_searched_is_refused(turn: str, method: str, options: dict[str, object], told: str):
    found = searching(method, **options)
    with pytest.raises(RecipeError, match=told):
        genes_of(found, 8)
    assert [key for key, _ in unfit_options(found)] == [f"search.options.{name}" for name in options]


def test_a_route_has_no_options_to_search():
    with pytest.raises(ValueError, match="a search for routes varies no options"):
        recipe(method="passthrough", search={"route": {}, "options": {"lambda": [0, 1]}})
