"""Kernel launches: merge a batch of tensors by a method on the current stream.

Knows the Triton kernels and how they are launched; no models and no recipes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton.language as tl

from evovlm.methods import METHODS, MergeOptions
from evovlm.methods.interpolate import copy_single, model_stock, slerp
from evovlm.methods.kernels import FUSED_DROPS
from evovlm.methods.kernels._fused import (
    BY_DRAW,
    BY_FACTORS,
    BY_MAGNITUDE,
    BY_MASK,
    BY_WINDOW,
    KEEP_ALL,
    merge_tiles,
)
from evovlm.methods.kernels.layout import Batch

TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32, torch.int8: tl.int8}
DROPS = {None: KEEP_ALL, "random": BY_DRAW, "magnitude": BY_MAGNITUDE, "breadcrumbs": BY_WINDOW}
assert set(DROPS) == set(FUSED_DROPS)


@dataclass(frozen=True)
class Shape:
    """Launch parameters of the fused kernel.

    groups: counters (of eight elements each) per tile. warps: per program, of 32 threads each. repeats: tiles per
    program, one after the other.
    """

    groups: int
    warps: int
    repeats: int


# The fastest of those tried on an H200 (docs/performance.md). With many sources, the values kept from tile to tile
# would take registers that the tiles need.
FEW_SOURCES, MANY_SOURCES = Shape(64, 2, 8), Shape(64, 2, 4)


def shape_for(sources: int) -> Shape:
    """The shape for merges of this many sources."""
    return FEW_SOURCES if sources <= 3 else MANY_SOURCES


def merge_batch(batch: Batch, method: str, options: MergeOptions, shape: Shape, *, masked: bool = False) -> None:
    """Merge a batch whose numbers are set; asynchronous. Sets `batch.faults` to 1 where a value is not finite.

    masked: the operands have masks (or factors, for `rescale: per_element`), and drop by these.
    """
    form, found = batch.form, METHODS[method]
    by_mask = BY_FACTORS if options.rescale == "per_element" else BY_MASK
    mix = found.rule is model_stock
    assert (batch.groups, batch.repeats) == (shape.groups, shape.repeats)
    merge_tiles[(len(batch.tiles),)](
        batch.tiles,
        batch.addresses,
        batch.counts,
        batch.numbers,
        batch.divisors,
        batch.faults,
        options.lambda_,
        SOURCES=len(form.sources),
        BASE=None if form.base is None else TYPES[form.base],
        SOURCE=tuple(TYPES[dtype] for dtype in form.sources),
        MERGED=TYPES[form.merged],
        OUT=TYPES[form.out],
        DROP=by_mask if masked else DROPS[found.drop],
        ELECT=found.elect,
        NORMALIZE=mix or (options.normalize and found.rule not in (slerp, copy_single)),
        LAMBDA=found.needs_base and not mix and options.lambda_ != 1.0,
        EIGHT=form.eight_bit,
        MIX=mix,
        VECTORS=found.prepare is not None,
        GROUPS=shape.groups,
        REPEATS=shape.repeats,
        ALIGN=16 if form.aligned else 1,
        num_warps=shape.warps,
        # A fused multiply-add does not round the product, so its result would differ from the CPU's.
        enable_fp_fusion=False,
    )
