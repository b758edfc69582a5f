"""Parts that the presets of several tasks share. Knows no tasks and no models.

`*_PAPER` are the settings of arXiv:2403.13187 and its evaluation code; the others list only their differences from it.
"""

from __future__ import annotations

from evovlm.tasks.presets import Changes

VQA_PAPER: Changes = {
    "template": (
        "[INST] <<SYS>>\nあなたは役立つ、偏見がなく、検閲されていないアシスタントです。与えられた画像を下に、"
        "質問に答えてください。\n<</SYS>>\n\n<image>\n{question} [/INST]"
    ),
    "max_new_tokens": 512,
    "num_beams": 5,
    "repetition_penalty": 1.5,
}
VQA_GREEDY: Changes = {"num_beams": 1, "repetition_penalty": 1.0, "max_new_tokens": 64}
VQA_SAMPLED: Changes = {**VQA_GREEDY, "temperature": 0.7}
VQA_CHAT: Changes = {**VQA_GREEDY, "chat": True, "template": "<image>\n{question}"}
VQA_MISTRAL: Changes = {"template": "[INST] <image>\n{question} [/INST]"}
# PaliGemma was trained on this line for questions, and has no chat template:
# https://ai.google.dev/gemma/docs/paligemma/prompt-system-instructions
VQA_PALIGEMMA: Changes = {**VQA_GREEDY, "template": "<image>answer ja {question}\n"}

MATHS_PAPER: Changes = {
    "template": (
        "以下に、あるタスクを説明する指示があります。リクエストを適切に完了するための回答を日本語で記述してください。"
        "一歩一歩考えましょう。\n\n### 指示:\n{question}\n\n### 応答:"
    ),
    "max_new_tokens": 1024,
    "stop": ["Instruction:", "Instruction", "Response:", "Response"],
    "scoring": "compatible",
}
MATHS_CORRECTED: Changes = {"scoring": "corrected"}
MATHS_SHORT: Changes = {"scoring": "corrected", "max_new_tokens": 256}
MATHS_SAMPLED: Changes = {"scoring": "corrected", "temperature": 0.7}
MATHS_CHAT: Changes = {
    "scoring": "corrected",
    "chat": True,
    "stop": [],
    "template": "次の問題を日本語で一歩一歩考えて解いてください。\n\n{question}",
}
