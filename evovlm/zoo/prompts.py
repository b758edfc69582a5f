"""The zoo's prompts and answer lengths, which must be the same in training and evaluation. Knows nothing else."""

VQA_PROMPT = "<image>\n{question}\n"
LLM_PROMPT = "{question}\n"
# Tokens of the longest reference, plus a small margin.
MAX_NEW_TOKENS_VQA = 16
MAX_NEW_TOKENS_MATHS = 28
IMAGE_SIZE = 96  # side length in pixels
