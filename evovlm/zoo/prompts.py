"""The zoo's prompts and answer lengths: what training and evaluation must agree on. Knows nothing else."""

VQA_PROMPT = "<image>\n{question}\n"
LLM_PROMPT = "{question}\n"
# Tokens of the longest reference, with a little room.
MAX_NEW_TOKENS_VQA = 16
MAX_NEW_TOKENS_MATHS = 28
IMAGE_SIZE = 96  # pixels a side
