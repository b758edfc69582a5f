"""Checks a model's own files: all weights are there, those that are only copied are numbers, token ids are rows.

Knows transformers' loading report and single models; compares no two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from evovlm.merging.check._finding import Finding, model_key
from evovlm.models.configuration import GENERATION, read_generation
from evovlm.models.finite import is_finite, is_quantised
from evovlm.models.foreign_files import adapter_beside
from evovlm.models.layouts import EMBEDDING, OUTPUT_HEAD
from evovlm.models.loading import report_from_headers
from evovlm.models.open_model import OpenModel
from evovlm.models.processor_files import processor_faults
from evovlm.models.token_ids import id_faults, placeholder_of
from evovlm.models.zoo_models import FOLDER


def check_complete(model: OpenModel) -> Iterator[Finding]:
    """Report weights that a model's files lack, have in another shape than its configuration says, or besides it.

    Also an adapter beside them, which is not used.

    A missing head is left to `check_head`, which knows when the embeddings take its place.
    """
    if model.folder.is_relative_to(FOLDER):
        return  # compared with the manifest when it was opened
    if told := adapter_beside(model.folder):
        yield Finding("warning", model_key(model, "adapter"), told)
    report = report_from_headers(model.folder, model.checkpoint)
    if report is None:
        return
    missing = tuple(name for name in report.missing if not name.endswith(OUTPUT_HEAD))
    report = replace(report, missing=missing)
    if said := report.in_words():
        yield Finding("error", model_key(model, "weights"), f"{said}; {report.way_out()}")


def check_copied(owner: OpenModel) -> Iterator[Finding]:
    """Report the first tensor that is quantised or not finite among those that the output copies from the owner.

    They are read once. Merged tensors are checked when they are made.
    """
    for key in owner.checkpoint.keys():
        if not owner.carries(key):
            continue
        dtype = owner.checkpoint.dtype(key)
        if is_quantised(key, dtype):
            stored = str(dtype).removeprefix("torch.")
            text = (
                f"{key} is quantised ({stored}), and would be copied without its scales; use the unquantised checkpoint"
            )
        elif not is_finite(owner.checkpoint.tensor(key)):
            text = f"{key} holds NaN or infinite values, and would be copied; download the checkpoint again"
        else:
            continue
        yield Finding("error", model_key(owner, "weights"), text)
        return


def check_ids(model: OpenModel, *, owner: bool) -> Iterator[Finding]:
    """Report token ids that are no rows, tokens beyond the table, an image token with two ids, an unfit processor.

    `owner`: whether the output gets this model's vocabulary, so that nothing else can take its place.
    """
    if EMBEDDING not in model.tower:
        return
    configs = {"config.json": model.config}
    if model.text_config is not model.config:
        configs["config.json's text_config"] = model.text_config
    configs[GENERATION] = read_generation(model.folder)
    rows = model.checkpoint.shape(model.tower[EMBEDDING])[0]
    if model.layout.kind == "vlm":
        for fault in processor_faults(model.folder, model.config, model.tokens):
            yield Finding("error" if owner else "warning", model_key(model, fault.key), fault.text)
    placeholder = placeholder_of(model.folder, model.config, model.tokens) if model.layout.kind == "vlm" else None
    for fault in id_faults(configs, model.tokens, rows, placeholder):
        yield Finding("error" if fault.fatal and owner else "warning", model_key(model, fault.key), fault.text)
