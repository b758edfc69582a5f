"""What a method of a plugin did that no merge could foresee, as a sentence on the plugin, the method and the tensor.

Knows the registry and exceptions. A method of this package that fails so is a bug, and is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from evovlm.methods._unfit_result import UnfitResult
from evovlm.methods.table import METHODS
from evovlm.system.errors import CandidateFault, UnfitValues, UserError
from evovlm.system.faults import machine_fault
from evovlm.system.plugins import said


@contextmanager
def blaming_plugins(method: str, tensor: str) -> Iterator[None]:
    """Name plugin, method and tensor in what is raised in the block, if the method is a plugin's.

    Raises UnfitResult for an unfit result, and UnfitValues for an exception that the method's function did not mean
    for users: other weights may do, so in a search it is the candidate's fault. What the machine lacks stays that.
    """
    try:
        yield
    except (Exception, SystemExit) as fault:
        row = METHODS.get(method)
        if row is None or row.plugin is None or machine_fault(fault) is not None:
            raise
        where = f"tensor {tensor}, plugin {row.plugin}"
        if isinstance(fault, UnfitResult):
            raise UnfitResult(f"{fault} ({where})") from fault
        if isinstance(fault, UserError | CandidateFault | FloatingPointError):
            raise
        raise UnfitValues(
            f"method: {method} failed ({said(fault)}) on {where}; fix the plugin, or choose another method"
        ) from fault
