"""Merge methods: tensors in, one tensor out; computed in float32.

Knows no files, models or configuration. Names are loaded when they are first used (PEP 562), so that a recipe, which
needs the options alone, is read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evovlm.methods._prepared import PreparedSum, vector_dtype
    from evovlm.methods._result import as_float32
    from evovlm.methods._task_vectors import LEAST_DIVISOR, TaskVectorSum
    from evovlm.methods.definition import Method, Rule
    from evovlm.methods.merge import check_inputs, merge_tensor
    from evovlm.methods.operand import CHUNK, Operand, Tables
    from evovlm.methods.options import MergeOptions, OwnOptions
    from evovlm.methods.table import METHODS, find_method, method, prepared_method, register, resolve_options
    from evovlm.methods.unforeseen import blaming_plugins

__all__ = [
    "CHUNK",
    "LEAST_DIVISOR",
    "METHODS",
    "MergeOptions",
    "Method",
    "Operand",
    "OwnOptions",
    "PreparedSum",
    "Rule",
    "Tables",
    "TaskVectorSum",
    "as_float32",
    "blaming_plugins",
    "check_inputs",
    "find_method",
    "merge_tensor",
    "method",
    "prepared_method",
    "register",
    "resolve_options",
    "vector_dtype",
]

MODULES = {
    "_prepared": ("PreparedSum", "vector_dtype"),
    "_result": ("as_float32",),
    "_task_vectors": ("LEAST_DIVISOR", "TaskVectorSum"),
    "merge": ("check_inputs", "merge_tensor"),
    "definition": ("Method", "Rule"),
    "operand": ("CHUNK", "Operand", "Tables"),
    "options": ("MergeOptions", "OwnOptions"),
    "table": ("METHODS", "find_method", "method", "prepared_method", "register", "resolve_options"),
    "unforeseen": ("blaming_plugins",),
}
WHERE = {name: module for module, names in MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, looked up when it is first used. Raises AttributeError for any other."""
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{WHERE[name]}"), name)
