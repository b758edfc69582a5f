import pytest
import torch

from evovlm.zoo import _corpus as corpus
from evovlm.zoo._ahead import Order, Pools
from evovlm.zoo._tokenizer import train_tokenizer
from evovlm.zoo.render import render


def orders() -> dict[str, Order]:
    texts = corpus.draw(corpus.base_mixture(), 300, "tokenizer")
    tokenizer = train_tokenizer(example.prompt + example.answer for example in texts)
    mixtures = {"align": corpus.align_mixture(), "math": corpus.math_mixture()}
    return {name: Order(mixture, 12, f"{name}/0", tokenizer, render, 32) for name, mixture in mixtures.items()}


@pytest.mark.slow
def test_pools_drawn_ahead_in_other_processes_are_those_drawn_here():
    here, ahead = Pools(orders(), 1), Pools(orders(), 2)
    try:
        for name in ("math", "align"):
            one, other = here.take(name), ahead.take(name)
            assert torch.equal(one.ids, other.ids)
            assert torch.equal(one.labels, other.labels)
            assert (one.pixels is None) == (name == "math")
            if one.pixels is not None and other.pixels is not None:
                assert torch.equal(one.pixels, other.pixels)
    finally:
        ahead.close()


def test_a_pool_labels_the_answer_alone_and_ends_it():
    pool = orders()["math"].fill()
    asked = pool.labels == -100
    assert asked[:, 0].all(), "the prompt is not learnt"
    assert torch.equal(pool.ids[~asked], pool.labels[~asked])
    assert pool.ids.dtype == torch.int16
