from typing import Any

import numpy as np
import pytest

from evovlm.recipe.route import in_words
from evovlm.recipe.schema import Recipe
from evovlm.search import SEARCHERS, make_searcher
from evovlm.search.space._route_network import scale_of, weights_in
from evovlm.search.space.data_flow import DataFlow, data_flow
from evovlm.search.space.parameters import search_settings
from evovlm.system.errors import RecipeError


def recipe(route: dict[str, Any], **search: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "kind": "llm",
            "sources": [{"name": name, "model": name} for name in ("ja", "math")],
            "owner": "ja",
            "method": "passthrough",
            "search": {"route": route} | search,
        }
    )


def space(depth: int = 3, **route: Any) -> DataFlow:
    return data_flow(recipe(route), {"ja": depth, "math": depth})


def bits(flow: DataFlow, *on: int) -> list[float]:
    genome = [0.0] * len(flow.entries) + [0.5] * (len(flow.genes) - len(flow.entries))
    for index in on:
        genome[index] = 1.0
    return genome


def test_the_papers_space_has_m_times_r_indicators_and_m_times_m_scales():
    flow = data_flow(recipe({}), {"ja": 32, "math": 32})
    assert len(flow.entries) == 64 * 3
    assert len(flow.pairs) == 64 * 64
    assert [gene.parameter for gene in flow.genes[191:193]] == ["use", "scale"]


def test_indicator_t_stands_for_layer_t_mod_m():
    flow = space(repeats=2)
    assert in_words(flow.route(bits(flow, 0, 2, 3, 6, 11))) == "ja 0, ja 2, math 0, ja 0, math 2"


def test_an_indicator_of_zero_is_off():
    flow = space(repeats=1)
    genome = bits(flow, 1)
    genome[0] = 0.5  # the middle of the unit interval stands for 0
    assert flow.genes[0].value(0.5) == 0.0
    assert in_words(flow.route(genome)) == "ja 1"


def test_a_search_begins_around_the_owner_as_it_is():
    flow = space(repeats=3)
    route = flow.route(flow.start)
    assert in_words(route) == "ja 0-2"
    assert {step.scale for step in route} == {1.0}


def test_scales_follow_the_transition_and_not_the_step():
    flow = space(repeats=2, scale=[0.5, 2.5])
    genome = bits(flow, 0, 4, 6, 10)  # ja 0, math 1, ja 0, math 1
    there = flow.pairs.index((("ja", 0), ("math", 1)))
    genome[len(flow.entries) + there] = 0.75
    back = flow.pairs.index((("math", 1), ("ja", 0)))
    genome[len(flow.entries) + back] = 0.0
    assert [step.scale for step in flow.route(genome)] == [1.0, 2.0, 0.5, 2.0]


def test_only_the_scales_of_used_transitions_are_active():
    flow = space(repeats=1)
    on = [False] * 6
    on[0] = on[2] = on[5] = True  # ja 0, ja 2, math 2
    pairs = [flow.pairs[index] for index in flow.active(on)]
    assert sorted(pairs) == [(("ja", 0), ("ja", 2)), (("ja", 2), ("math", 2))]


def test_layers_in_order_never_fall_in_depth_and_shrink_the_space():
    flow = space(repeats=1, ordered=True)
    depths = [step.layer for step in flow.route(bits(flow, *range(6)))]
    assert depths == [0, 0, 1, 1, 2, 2]
    assert len(flow.pairs) == 6 * 5 / 2
    assert len(space(repeats=2, ordered=True).pairs) < len(space(repeats=2).pairs)


def test_a_fixed_prefix_leads_every_route_and_its_layers_leave_the_space():
    flow = space(repeats=1, prefix={"source": "math", "layers": 2})
    assert flow.entries == (("ja", 2), ("math", 2))
    assert in_words(flow.route(bits(flow))) == "math 0-1"
    assert in_words(flow.route(bits(flow, 0, 1))) == "math 0-1, ja 2, math 2"
    assert flow.pairs[0] == (("math", 1), ("ja", 2))
    assert [flow.pairs[index] for index in flow.active([False, True])] == [(("math", 1), ("math", 2))]


def test_a_genome_without_indicators_gives_the_empty_route_which_no_evaluator_takes():
    flow = space(repeats=1)
    assert flow.route(bits(flow)) == ()


def test_the_network_gives_each_transition_its_scale_within_the_range():
    flow = space(repeats=2, scales="network", hidden=4, scale=[0.5, 1.5])
    assert len(flow.genes) - len(flow.entries) == weights_in(4) == 21
    assert {step.scale for step in flow.route(flow.start)} == {1.0}
    genome = np.concatenate([np.ones(12), np.random.default_rng(0).random(21)])
    scales = [step.scale for step in flow.route(genome.tolist())][1:]
    assert len(set(scales)) > 5
    assert all(0.5 <= scale <= 1.5 for scale in scales)


def test_the_network_worked_by_hand():
    # One hidden unit: tanh(1 (2 i - 1) + 0 j + 0 t + 0), then tanh(2 h + 0.5).
    theta = [1.0, 0.0, 0.0, 0.0, 2.0, 0.5]
    expected = 1.0 + 0.5 * np.tanh(2 * np.tanh(0.5) + 0.5)
    assert scale_of(theta, (0.75, 0.1, 0.9), 0.5, 1.5) == pytest.approx(expected)


@pytest.mark.parametrize("scales", ["matrix", "network", "none"])
@pytest.mark.parametrize("algorithm", sorted(SEARCHERS))
def test_every_searcher_searches_every_kind_of_space(algorithm: str, scales: str):
    made = recipe({"repeats": 2, "scales": scales}, algorithm=algorithm, population=8, trials=48)
    flow = data_flow(made, {"ja": 3, "math": 3})
    assert made.search is not None
    best = float("-inf")
    searcher = make_searcher(algorithm, search_settings(made.search, flow.genes, flow))
    for _ in range(6):
        genomes = searcher.ask()
        scores = []
        for genome in genomes:
            route = flow.route(genome)
            scores.append(-abs(len(route) - 5) + sum(step.source == "math" for step in route) if route else None)
        searcher.tell(genomes, scores)
        best = max(best, *(score for score in scores if score is not None))
    assert best >= 1  # the start, `ja` as it is, scores -2


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ({"scale": [-0.5, 1.5]}, r"search.route.scale: \[-0.5, 1.5\] contains 0"),
        ({"prefix": {"source": "jo", "layers": 1}}, r"unknown source 'jo'; choose from \['ja', 'math'\]"),
        ({"prefix": {"source": "ja", "layers": 3}}, "nothing to search"),
        ({"repeats": 100}, "routes can have up to 600 steps, but the KV cache holds 512"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(route: dict[str, Any], told: str):
    with pytest.raises(RecipeError, match=told):
        space(**route)
