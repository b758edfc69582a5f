"""Chat templates of families of vision-language models: their turns and pictures, in a short form of our own.

Knows names of families and Jinja. Where a family's own template takes lists of parts alone, reads a part's `content`,
or begins with a system prompt, so does the one here. PaliGemma has none.
"""

PARTS = (
    "{%% for part in message.content %%}{%% if part.type == 'image' %%}%(image)s{%% elif part.type == 'text' %%}"
    "{{ part.%(text)s }}{%% endif %%}{%% endfor %%}"
)
EITHER = "{%% if message.content is string %%}{{ message.content }}{%% else %%}" + PARTS + "{%% endif %%}"
ANSWER = "{% if add_generation_prompt %}answer{% endif %}"
QWEN_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"


def turns(before: str, content: str, after: str, answer: str, image: str, text: str = "text") -> str:
    """A template of user turns. content: `PARTS` or `EITHER`; image, text: what they write and read."""
    body = before + content % {"image": image, "text": text} + after
    return "{% for message in messages %}" + body + "{% endfor %}" + ANSWER.replace("answer", answer)


def chatml(image: str) -> str:
    return turns("<|im_start|>{{ message.role }}\n", EITHER, "<|im_end|>\n", "<|im_start|>assistant\n", image)


LAYOUTS = {
    "llava": turns("USER: ", PARTS, " ", "ASSISTANT:", "<image>\n"),
    "llava_next": turns("[INST] ", PARTS, " [/INST]", "", "<image>\n"),
    "llava_onevision": turns(
        "<|im_start|>{{ message.role }} ", PARTS, "<|im_end|>", "<|im_start|>assistant\n", "<image>\n"
    ),
    "qwen2_vl": SYSTEM + chatml(QWEN_PICTURE),
    "qwen2_5_vl": SYSTEM + chatml(QWEN_PICTURE),
    "qwen3_vl": chatml(QWEN_PICTURE),
    "internvl3": chatml("<IMG_CONTEXT>\n"),
    "internvl3_5": chatml("<IMG_CONTEXT>\n"),
    "gemma3": "{{ bos_token }}"
    + turns("<start_of_turn>user\n", EITHER, "<end_of_turn>\n", "<start_of_turn>model\n", "<start_of_image>"),
    "pixtral": "{{ bos_token }}" + turns("[INST]", EITHER, "[/INST]", "", "[IMG]", "content"),
    "mistral3": "{{ bos_token }}" + turns("[INST]", EITHER, "[/INST]", "", "[IMG]"),
    "idefics3": "<|im_start|>" + turns("User:", PARTS, "<end_of_utterance>\n", "Assistant:", "<image>"),
    "smolvlm": "<|im_start|>" + turns("User:", PARTS, "<end_of_utterance>\n", "Assistant:", "<image>"),
    "aya_vision": "{{ bos_token }}"
    + turns("<|USER_TOKEN|>", PARTS, "<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", "<image>"),
}
