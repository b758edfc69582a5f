"""Folding: builds a route's scales into the weights, so that a plain model computes the same as the route.

Knows canonical tensor names; no tensors. A layer adds f(norm(x)) to the residual stream x, and norm(c x) =
sign(c) norm(x) up to its epsilon. With C the product of all scales so far, the plain model's stream is x / C: the
layer's output is divided by C, and norm weights take the sign of C. The epsilon then has the effect of epsilon C^2;
`_folding_error` measures the difference.
"""

from __future__ import annotations

import math

from evovlm.models.layouts import FINAL_NORM

# Tensors that write to the residual stream, and tensors that read from it.
WRITES = (".self_attn.o_proj.weight", ".self_attn.o_proj.bias", ".mlp.down_proj.weight", ".mlp.down_proj.bias")
READS = (".input_layernorm.weight", ".post_attention_layernorm.weight", FINAL_NORM)


def factor_of(name: str, product: float) -> float:
    """Return the factor for a tensor at a point where the stream has been scaled by `product` in total.

    `name`: canonical tensor name. Does not raise: a product of 0 or infinity gives weights that the build rejects.
    """
    if name.endswith(READS):
        return math.copysign(1.0, product)
    if name.endswith(WRITES):
        return math.inf if product == 0 else 1.0 / product
    return 1.0
