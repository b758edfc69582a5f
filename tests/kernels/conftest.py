"""Triton's interpreter stands in for a GPU where there is none: the kernels' own code, run on the CPU."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
