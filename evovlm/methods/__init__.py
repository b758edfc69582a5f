"""Merge rules: tensors in, tensor out; float32 inside.

Knows no files, models or configuration.
"""

from evovlm.methods.merge import merge_tensor
from evovlm.methods.operand import CHUNK, Operand, Tables
from evovlm.methods.table import METHODS, MergeOptions, Method, resolve_options

__all__ = ["CHUNK", "METHODS", "MergeOptions", "Method", "Operand", "Tables", "merge_tensor", "resolve_options"]
