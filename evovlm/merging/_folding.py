"""Folding: a route's scales become part of the weights, so that a plain model computes what the route does.

Knows canonical tensor names; no tensors. A layer adds f(norm(x)) to the stream x, and norm(c x) = sign(c) norm(x) but
for its epsilon. So with C, the product of all scales so far, the plain model's stream is x / C: what a layer adds is
divided by C, and norm weights take C's sign. The epsilon then stands for epsilon C^2; `folding_error` measures that.
"""

from __future__ import annotations

import math

from evovlm.models.layouts import FINAL_NORM

# What writes to the stream, and what reads from it.
WRITES = (".self_attn.o_proj.weight", ".self_attn.o_proj.bias", ".mlp.down_proj.weight", ".mlp.down_proj.bias")
READS = (".input_layernorm.weight", ".post_attention_layernorm.weight", FINAL_NORM)


def factor_of(name: str, product: float) -> float:
    """What a tensor is multiplied by where the stream has been scaled by `product` in all.

    `name`: canonical. Raises nothing: a product that is 0 or infinite gives weights that a build refuses.
    """
    if name.endswith(READS):
        return math.copysign(1.0, product)
    if name.endswith(WRITES):
        return math.inf if product == 0 else 1.0 / product
    return 1.0
