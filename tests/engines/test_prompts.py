from evovlm.engines.prompts import blind_prompt, plan_batches


def test_the_plan_sorts_by_length_and_keeps_the_order_of_equals():
    assert plan_batches([3, 9, 3, 9, 5], 2) == [[1, 3], [4, 0], [2]]


def test_a_plan_of_equal_lengths_pads_nothing():
    assert plan_batches([3, 9, 3, 9, 5, 9], 2, alike=True) == [[1, 3], [5], [4], [0, 2]]


def test_a_plan_of_nothing_is_empty():
    assert plan_batches([], 4) == []


def test_a_prompt_without_an_image_has_no_place_for_one():
    assert blind_prompt("[INST] <image>\n{question} [/INST]", "何色?") == "[INST] 何色? [/INST]"
