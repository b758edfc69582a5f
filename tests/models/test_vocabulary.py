import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from evovlm.models.vocabulary import match_rows, read_vocabulary
from evovlm.system.errors import CheckpointError, RecipeError
from tests.hub_layouts import MISTRAL_ROWS, make_tokenizer

WORDS = {f"w{index}": index for index in range(1000)}


def words(count: int, start: int = 0) -> dict[str, int]:
    return {f"w{start + index}": index for index in range(count)}


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """The vocabularies of the paper's models, read from their tokenizer files."""
    folder = tmp_path_factory.mktemp("tokenizers")
    tokenizers = {
        "mistral": make_tokenizer(MISTRAL_ROWS),
        "llava": make_tokenizer(MISTRAL_ROWS, added=("<image>", "<pad>")),
        "wizard": make_tokenizer(MISTRAL_ROWS, added=("[PAD]",)),
        "shisa-7b": make_tokenizer(60000),
        "other words": make_tokenizer(MISTRAL_ROWS, words_seed=1),
        "permuted": make_tokenizer(MISTRAL_ROWS, order_seed=7),
    }
    for name, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(folder / name)
    read = {name: read_vocabulary(folder / name) for name in tokenizers}
    assert all(tokens is not None for tokens in read.values())
    assert {name: len(tokens or ()) for name, tokens in read.items()}["llava"] == 32002
    return {name: tokens or {} for name, tokens in read.items()}


def test_llavas_rows_and_mistrals_fit_and_padding_stays_the_owners(vocabularies: dict[str, dict[str, int]]):
    match = match_rows(vocabularies["llava"], 32064, vocabularies["mistral"], 32000, "match", "ja")
    assert match.rows.tolist() == [*range(32000), *[-1] * 64]
    assert (match.missing, match.extra, match.identity) == (("<image>", "<pad>"), (), False)


def test_equal_vocabularies_are_an_identity(vocabularies: dict[str, dict[str, int]]):
    match = match_rows(vocabularies["mistral"], 32000, vocabularies["mistral"], 32000, "match", "ja")
    assert match.identity
    assert match.rows.tolist() == list(range(32000))


def test_one_token_more_passes_and_is_named_as_dropped(vocabularies: dict[str, dict[str, int]]):
    match = match_rows(vocabularies["mistral"], 32000, vocabularies["wizard"], 32001, "match", "math")
    assert (match.missing, match.extra, match.identity) == ((), ("[PAD]",), False)
    assert match.rows.tolist() == list(range(32000))


@pytest.mark.parametrize("name", ["shisa-7b", "other words"])
def test_another_vocabulary_is_refused_with_the_ways_out(vocabularies: dict[str, dict[str, int]], name: str):
    tokens = vocabularies[name]
    with pytest.raises(RecipeError, match=r"sources\.shisa: vocabularies differ.*vocab: tower.*vocab: shared"):
        match_rows(vocabularies["llava"], 32064, tokens, len(tokens), "match", "sources.shisa")
    shared = match_rows(vocabularies["llava"], 32064, tokens, len(tokens), "shared", "sources.shisa")
    assert 0 < int((shared.rows >= 0).sum()) <= 32000


def test_permuted_ids_are_matched_by_token(vocabularies: dict[str, dict[str, int]]):
    mistral, permuted = vocabularies["mistral"], vocabularies["permuted"]
    match = match_rows(mistral, 32000, permuted, 32000, "match", "p")
    assert not match.identity
    assert all(int(match.rows[row]) == permuted[token] for token, row in mistral.items())


def test_the_least_that_passes_is_98_percent_of_the_owner_and_95_of_the_model():
    assert match_rows(words(1000), 1000, words(980), 980, "match", "sources.m").missing[0] == "w980"
    with pytest.raises(RecipeError, match=r"it has 97\.9%"):
        match_rows(words(1000), 1000, words(979), 979, "match", "sources.m")
    assert len(match_rows(words(950), 950, words(1000), 1000, "match", "sources.m").extra) == 50
    with pytest.raises(RecipeError, match=r"the owner has 94\.9%"):
        match_rows(words(949), 949, words(1000), 1000, "match", "sources.m")


def test_control_tokens_do_not_count_as_strangers():
    control = {f"<extra_{index}>": 10 + index for index in range(30)} | {"[PAD]": 40}
    match = match_rows(words(10) | control, 41, words(10), 10, "match", "sources.m")
    assert len(match.missing) == 31


def test_rows_beyond_the_tokenizer_never_match():
    match = match_rows(words(100), 128, words(100), 128, "match", "sources.m")
    assert match.rows[100:].tolist() == [-1] * 28
    assert not match.identity


def test_a_token_whose_row_does_not_exist_is_missing():
    match = match_rows(words(100), 100, words(100), 99, "match", "sources.m")
    assert match.missing == ("w99",)
    assert match.rows[99] == -1
    assert match_rows(words(100), 99, words(100), 100, "match", "sources.m").extra == ("w99",)


def test_shared_refuses_only_when_nothing_is_shared():
    match = match_rows(words(10), 10, words(10, start=9), 10, "shared", "sources.m")
    assert match.rows.tolist() == [-1] * 9 + [0]
    with pytest.raises(RecipeError, match="no token is shared"):
        match_rows(words(10), 10, words(10, start=50), 10, "shared", "sources.m")


def test_tower_takes_no_row_of_the_model():
    assert match_rows(WORDS, 1003, WORDS, 1000, "tower", "sources.m").rows.tolist() == [-1] * 1003


def test_position_matches_as_many_rows_as_both_have():
    longer = match_rows(None, 5, None, 3, "position", "sources.m")
    assert longer.rows.tolist() == [0, 1, 2, -1, -1]
    assert not longer.identity
    shorter = match_rows(words(3), 3, words(5, start=7), 5, "position", "sources.m")
    assert shorter.rows.tolist() == [0, 1, 2]
    assert not shorter.identity
    assert match_rows(None, 3, None, 3, "position", "sources.m").identity


@pytest.mark.parametrize("policy", ["match", "shared"])
def test_without_a_tokenizer_equal_tables_are_matched_by_position_and_others_refused(policy: str):
    assert match_rows(words(5), 5, None, 5, policy, "sources.m").identity  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"sources\.m: 6 vocabulary rows.*it has no tokenizer.*vocab: position"):
        match_rows(words(5), 5, None, 6, policy, "sources.m")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="the owner has no tokenizer"):
        match_rows(None, 5, words(6), 6, policy, "sources.m")  # type: ignore[arg-type]


@given(st.permutations(range(40)), st.integers(0, 8), st.integers(0, 8))
def test_every_matched_row_carries_the_same_token(order: list[int], padding: int, more: int):
    tokens = {f"w{word}": row for row, word in enumerate(order)}
    match = match_rows(words(40), 40 + padding, tokens, 40 + more, "match", "sources.m")
    texts = {row: token for token, row in tokens.items()}
    assert [texts[row] for row in match.rows[:40].tolist()] == [f"w{word}" for word in range(40)]
    assert match.rows[40:].tolist() == [-1] * padding
    assert match.identity == (order == list(range(40)) and padding == more == 0)
    assert match.rows.dtype == torch.int64


def test_a_tokenizer_json_reads_as_transformers_reads_it(tmp_path: Path):
    make_tokenizer(2000, added=("<image>",)).save_pretrained(tmp_path)
    assert read_vocabulary(tmp_path) == AutoTokenizer.from_pretrained(tmp_path).get_vocab()


def test_a_sentencepiece_model_and_its_added_tokens_are_read(tmp_path: Path):
    import sentencepiece

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the mat\nthe dog sat on the log\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "tokenizer"), vocab_size=40, model_type="bpe", minloglevel=2
    )
    (tmp_path / "added_tokens.json").write_text('{"[PAD]": 40}')
    tokens = read_vocabulary(tmp_path)
    assert tokens is not None
    assert len(tokens) == 41
    assert (tokens["<unk>"], tokens["<s>"], tokens["</s>"], tokens["[PAD]"]) == (0, 1, 2, 40)
    assert "▁the" in tokens


def test_unigram_and_gpt2_style_files_are_read(tmp_path: Path):
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    decoder = {"added_tokens_decoder": {"2": {"content": "<pad>"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(decoder))
    assert read_vocabulary(tmp_path) == {"a": 0, "b": 1, "<pad>": 2}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [["x", -1.0], ["y", -2.5]]}}))
    assert read_vocabulary(tmp_path) == {"x": 0, "y": 1, "<pad>": 2}


def test_no_tokenizer_is_none_and_a_broken_one_is_named(tmp_path: Path):
    assert read_vocabulary(tmp_path) is None
    for name, content, problem in (
        ("vocab.json", "[3]", "holds a list, not an object"),
        ("tokenizer.model", "broken", "it is no SentencePiece model"),
        ("tokenizer.json", '{"model": {}}', "`model.vocab` must be an object from token to id, not null"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(CheckpointError, match=f"{name}: {problem}"):
            read_vocabulary(tmp_path)


def test_rows_that_are_the_same_tokens_are_matched_by_position_whatever_the_padding():
    match = match_rows(words(100), 128, words(100), 100, "same", "sources.m")
    assert match.rows.tolist() == [*range(100), *[-1] * 28]
    assert match_rows(words(100), 100, words(100), 100, "same", "sources.m").identity


@pytest.mark.parametrize(
    ("tokens", "rows", "told"),
    [
        (words(100) | {"w3": 7, "w7": 3}, 100, r"2 rows, the first is row 3: 'w3' in the owner, 'w7' in it"),
        (words(100, start=1), 100, r"100 rows, the first is row 0: 'w0' in the owner, 'w1' in it"),
        (words(100) | {"[PAD]": 100}, 101, r"1 rows, the first is row 100: no token in the owner, '\[PAD\]' in it"),
        (words(99), 100, r"1 rows, the first is row 99: 'w99' in the owner, no token in it"),
    ],
)
def test_rows_of_other_tokens_are_not_merged_by_position_unasked(tokens: dict[str, int], rows: int, told: str):
    with pytest.raises(RecipeError, match=rf"sources\.m: vocabularies differ in {told}.*tokenizer_source"):
        match_rows(words(100), 100, tokens, rows, "same", "sources.m")
    match_rows(words(100), 100, tokens, rows, "position", "sources.m")


def test_tables_of_other_sizes_without_a_tokenizer_are_refused():
    with pytest.raises(RecipeError, match="6 vocabulary rows against the owner's 5"):
        match_rows(None, 5, None, 6, "same", "sources.m")
