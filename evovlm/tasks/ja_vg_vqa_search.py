"""The paper's VLM search data: Japanese Visual Genome VQA without the 500 test images. Knows no models.

The data are not on the hub. Give a folder with `question_answers.json` of yahoojapan/ja-vg-vqa, Visual Genome's images
named by id, and either `test_image_ids.txt` or a copy of the test set, whose images are excluded.
"""

from __future__ import annotations

from evovlm.system.errors import DataError
from evovlm.tasks._data_task import DataTask, chosen_preset, is_validation
from evovlm.tasks._marking import mark_words
from evovlm.tasks._preset_parts import VQA_CHAT, VQA_GREEDY, VQA_PALIGEMMA, VQA_PAPER, VQA_SAMPLED
from evovlm.tasks._visual_genome import read_search, test_ids
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Presets, set_by_files
from evovlm.tasks.protocol import Item, Task

NAME = "ja-vg-vqa-search"
PRESETS: Presets = {
    "paper": {**VQA_PAPER, "questions": "first"},
    "greedy": VQA_GREEDY,
    "sampled": VQA_SAMPLED,
    "chat": VQA_CHAT,
    "paligemma": VQA_PALIGEMMA,
    "all-questions": {"questions": "all"},
}


def ja_vg_vqa_search(options: Options) -> Task:
    """The task; a fifth of the images, chosen by id, is the validation split.

    Whole pictures come with all their questions, whatever a shipped preset says. Raises DataError for an unknown
    preset, or one from a file that contradicts this; reading items raises it if the folder is missing or incomplete.
    """
    preset = chosen_preset(NAME, PRESETS, options)
    if options.whole_pictures:
        if set_by_files(options.preset, options.root).get("questions") == "first":
            raise DataError(
                f"preset {options.preset}: `questions: first` asks one question per picture, and the recipe's"
                " `data.whole_pictures: true` asks all of them; leave one of the two out"
            )
        preset = preset.model_copy(update={"questions": "all"})

    def read(split: str) -> list[Item]:
        if options.path is None:
            raise DataError(f"{NAME}: not on the hub; name its folder as {NAME}@FOLDER:{split}")
        items = read_search(options.path, preset.questions, lambda: test_ids(options.path, options))
        return [item for item in items if is_validation(item.id.split("-")[1]) == (split == "validation")]

    return DataTask(
        name=NAME,
        splits=("search", "validation"),
        test_splits=(),
        preset=preset,
        options=options,
        read=read,
        mark=lambda item, answer: mark_words(item, answer, options.japanese),
    )
