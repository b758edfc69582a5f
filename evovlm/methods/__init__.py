"""Merge methods: tensors in, one tensor out; computed in float32.

Knows no files, models or configuration.
"""

from evovlm.methods._result import as_float32
from evovlm.methods._task_vectors import LEAST_DIVISOR, TaskVectorSum
from evovlm.methods.merge import merge_tensor
from evovlm.methods.method import MergeOptions, Method, Rule
from evovlm.methods.operand import CHUNK, Operand, Tables
from evovlm.methods.table import METHODS, method, register, resolve_options

__all__ = [
    "CHUNK",
    "LEAST_DIVISOR",
    "METHODS",
    "MergeOptions",
    "Method",
    "Operand",
    "Rule",
    "Tables",
    "TaskVectorSum",
    "as_float32",
    "merge_tensor",
    "method",
    "register",
    "resolve_options",
]
