"""Answers as cards."""

from evovlm_app.cards import cards, seen_rows, stopped
from evovlm_app.streaming import Reply

WRITING = Reply("vlm", "writing", "中央", 2, 0.1)
WAITING = Reply("merged", merged=True)
DONE = Reply("ja", "done", "<b>中央です", 4, 0.2)


def test_what_a_model_wrote_is_escaped_and_the_reference_told():
    shown = cards(seen_rows([DONE], ["中央です"]), "ja")
    assert "<b>中央" not in shown
    assert '正解 <b lang="ja">中央です</b>' in shown
    assert 'aria-busy="false"' in shown


def test_sources_and_merges_are_told_apart():
    rows = seen_rows([WRITING, WAITING], [])
    assert [row["kind"] for row in rows] == ["source", "merge"]
    assert 'aria-busy="true"' in cards(rows, "en")


def test_stopped_cards_keep_what_was_written_and_wait_no_more():
    shown = stopped(cards(seen_rows([WRITING, WAITING, DONE], []), "en"), "en")
    assert shown.count("stopped") == 4  # two classes, two notes
    assert "中央 <span" in shown
    assert not any(word in shown for word in ("caret", "writing", "waiting", 'aria-busy="true"'))
    assert "answer source done" in shown
