"""Whose fault an exception is: the candidate's, the user's, the machine's, or nobody's that was foreseen.

Knows exceptions; no models, searches or study folders. A candidate's fault is a failed trial. What the user or the
machine did wrong stops a search without a trial, because the candidate could be scored elsewhere.
"""

from __future__ import annotations

import errno
import sys

from evovlm.system.errors import (
    CandidateFault,
    CheckpointError,
    LackingMemory,
    MachineFault,
    UserError,
    fault_text,
)

# torch reports missing memory on the CPU, and some on the GPU, as a plain RuntimeError; fork and mmap as an OSError.
NO_MEMORY = (
    *("can't allocate memory", "not enough memory: you tried to allocate", "std::bad_alloc", "Cannot allocate memory"),
    *("CUDA out of memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED", "can't start new thread"),
)
# After one of these, every call of the GPU fails until the process ends.
BROKEN_GPU = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "Triton Error [CUDA]", "HIP error")
# Errors of the disk, or of a limit of this process: whatever is done next fails as well.
BROKEN_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.EAGAIN),
)


class Unforeseen(str):
    """The text of a failure that is not known to be a candidate's: counted, because the program may be at fault."""

    __slots__ = ()


def failure_of(fault: Exception) -> str:
    """The text under which a candidate's failure is logged; an `Unforeseen` if it is no known fault of candidates.

    Call it where the exception was caught. Raises MachineFault for what the machine lacks; user errors, errors of files
    and bugs are raised unchanged.
    """
    if isinstance(fault, CandidateFault | FloatingPointError):
        return fault_text(fault)
    if isinstance(fault, UserError):
        raise fault
    lacking = machine_fault(fault)
    if lacking is not None:
        raise lacking from fault
    if isinstance(fault, ValueError | RuntimeError | ArithmeticError):
        return Unforeseen(fault_text(fault))
    raise fault


class Passing(str):
    """The text of a failure that may be gone when the same is tried again."""

    __slots__ = ()


def row_failure(fault: Exception) -> str:
    """The text under which a failed source or control is reported; a `Passing` if it is worth trying again.

    Unlike a search (see `failure_of`), the comparison of a finished one goes on: only what would fail every other row
    too is raised, MachineFault for what the machine lacks other than memory, and OSError for a broken or full disk.
    """
    lacking = machine_fault(fault)
    if isinstance(lacking or fault, LackingMemory):  # what asks for less memory can still be scored
        return Passing(str(lacking or fault))
    if isinstance(fault, MachineFault):
        raise fault
    if lacking is not None:
        raise lacking from fault
    if isinstance(fault, OSError) and fault.errno in BROKEN_DISK:
        raise fault
    if isinstance(fault, CandidateFault | FloatingPointError):
        return fault_text(fault)
    if isinstance(fault, UserError):
        # A checkpoint that cannot be used stays so: a study is bound to the content of its files.
        return str(fault) if isinstance(fault, CheckpointError) else Passing(str(fault))
    return Passing(fault_text(fault))


def machine_fault(fault: BaseException) -> MachineFault | None:
    """The sentence on what the machine lacks, or None if the exception does not say so."""
    if is_out_of_memory(fault):
        return LackingMemory(
            f"not enough memory ({_first_line(fault)}); free memory or lower the batch size, then run the same command"
            " again"
        )
    text = _first_line(fault)
    if isinstance(fault, RuntimeError) and any(sign in text for sign in BROKEN_GPU):
        return MachineFault(
            f"the GPU cannot be used any more in this process ({text}); run the same command again, and if it recurs"
            " check the GPU with nvidia-smi or use another --device"
        )
    return None


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an exception means out of memory, on the CPU or on a GPU."""
    if isinstance(fault, MemoryError) or (isinstance(fault, OSError) and fault.errno == errno.ENOMEM):
        return True
    torch = sys.modules.get("torch")  # without torch there is no such error, and loading it here would be slow
    if torch is not None and isinstance(fault, torch.OutOfMemoryError):
        return True
    return any(sign in str(fault) for sign in NO_MEMORY)


def _first_line(fault: BaseException) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0] if lines else type(fault).__name__
