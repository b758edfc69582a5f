"""Japanese things: how they look, in both languages; what they are called and what they are, in Japanese alone.

Knows words; no scenes and no drawing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JapaneseThing:
    """A Japanese thing: its looks in both languages, its category in English, its name and lore only in Japanese."""

    looks: str
    looks_ja: str
    sort: str
    name: str
    lore: str


JAPANESE_THINGS = {
    "torii": JapaneseThing("red gate", "赤い門", "gate", "鳥居", "神社の入り口"),
    "fuji": JapaneseThing("snowy mountain", "雪の山", "mountain", "富士山", "日本一高い山"),
    "onigiri": JapaneseThing("white snack", "白い食べ物", "snack", "おにぎり", "のりで巻いたご飯"),
    "shinkansen": JapaneseThing("long train", "長い列車", "train", "新幹線", "とても速い列車"),
    "daruma": JapaneseThing("round doll", "丸い人形", "doll", "だるま", "願いをかける人形"),
    "chochin": JapaneseThing("paper lamp", "紙の明かり", "lamp", "提灯", "祭りの明かり"),
    "koinobori": JapaneseThing("fish flag", "魚の旗", "flag", "鯉のぼり", "子供の日の旗"),
    "sakura": JapaneseThing("pink tree", "桃色の木", "tree", "桜", "春に咲く木"),
}
