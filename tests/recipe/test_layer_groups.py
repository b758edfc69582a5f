import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evovlm.recipe.layer_groups import block_names, group_names, grouping, layer_of
from evovlm.system.errors import RecipeError


def test_four_blocks_of_eight_layers_are_two_layers_each():
    assert group_names(4, 8) == ["embeddings", "layers 0-1", "layers 2-3", "layers 4-5", "layers 6-7", "head"]


def test_each_tensor_finds_its_group():
    group = grouping(4, 8)
    assert group("model.embed_tokens.weight") == "embeddings"
    assert group("model.layers.3.mlp.up_proj.weight") == "layers 2-3"
    assert group("model.norm.weight") == "head"
    assert group("lm_head.weight") == "head"


def test_whole_puts_everything_into_one_group():
    assert {grouping("whole", 2)(name) for name in ("lm_head.weight", "model.layers.0.x")} == {"whole"}


def test_the_first_glob_that_takes_a_tensor_wins():
    group = grouping({"mlp": ("*.mlp.*",), "late": ("layers 4-7",), "rest": ("*",)}, 8)
    assert group("model.layers.6.mlp.up_proj.weight") == "mlp"
    assert group("model.layers.6.self_attn.q_proj.weight") == "late"
    assert group("model.layers.1.self_attn.q_proj.weight") == "rest"


def test_a_tensor_that_no_glob_takes_is_named():
    with pytest.raises(RecipeError, match=r"no group matches lm_head\.weight"):
        grouping({"mlp": ("*.mlp.*",)}, 8)("lm_head.weight")


def test_more_blocks_than_layers_are_refused():
    with pytest.raises(RecipeError, match="9 blocks for 8 layers"):
        group_names(9, 8)


@given(st.integers(1, 64), st.data())
def test_blocks_cover_every_layer_once(layers: int, data: st.DataObject):
    blocks = data.draw(st.integers(1, layers))
    covered = []
    for name in block_names(blocks, layers):
        low, high = map(int, name.removeprefix("layers ").split("-"))
        covered += range(low, high + 1)
    assert covered == list(range(layers))


def test_a_layer_number_is_read_whole():
    assert layer_of("model.layers.12.mlp.up_proj.weight") == 12
    assert layer_of("model.norm.weight") is None


def test_thousands_of_patterns_take_seconds_and_mean_what_fnmatch_says():
    spec = {f"g{number}": (f"model.layers.*.{number:05d}.?[ab]*",) for number in range(2000)} | {"rest": ("*",)}
    began = time.process_time()
    group_of = grouping(spec, 4)
    names = [f"model.layers.{layer}.{number:05d}.xb.weight" for layer in range(4) for number in range(0, 2000, 40)]
    found = [group_of(name) for name in names]
    assert time.process_time() - began < 5
    assert found == [f"g{number}" for _ in range(4) for number in range(0, 2000, 40)]
    assert group_of("model.layers.1.00040.xc.weight") == "rest"
