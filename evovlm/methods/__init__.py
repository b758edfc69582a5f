"""Merge rules: tensors in, tensor out; float32 inside.

Knows no files, models or configuration.
"""

from evovlm.methods.merge import LEAST_DIVISOR, merge_tensor
from evovlm.methods.operand import CHUNK, Operand, Tables
from evovlm.methods.result import as_float32
from evovlm.methods.table import METHODS, MergeOptions, Method, resolve_options

__all__ = [
    "CHUNK",
    "LEAST_DIVISOR",
    "METHODS",
    "MergeOptions",
    "Method",
    "Operand",
    "Tables",
    "as_float32",
    "merge_tensor",
    "resolve_options",
]
