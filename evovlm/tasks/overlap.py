"""Find questions or images that two sets of items share: texts by n-grams, images by a perceptual hash.

Knows items; no models and no studies. Two items overlap if both have images and the images are similar, or if neither
has one and the texts are similar. Questions about images are not compared: "what is it?" is asked about many images.

Similar texts share most character n-grams and contain the same numbers, because problems made from one pattern differ
only in their numbers. Similar images have difference hashes (dHash) that differ in few bits, and thumbnails of similar
colours, because plain images often share a hash. Neither test finds translated texts or cropped or mirrored images.
Of a question, the first 10,000 characters are compared.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evovlm.tasks import Item
from evovlm.tasks.metrics.limits import nfkc

NGRAM = 5
MOST_COMPARED = 10_000  # characters of a text; each takes a hundred bytes of memory
LIKE_TEXT = 0.8  # Jaccard similarity of the n-gram sets
HASH_SIDE = 16
MOST_BITS = 20  # of 256; re-encoding or resizing may change this many
THUMB_SIDE = 16
MOST_COLOUR = 6.0  # mean difference between thumbnails, on a scale of 0 to 255


@dataclass(frozen=True)
class Overlap:
    """A pair of items that are too similar, by id. `likeness`: 0 to 1."""

    kind: Literal["id", "text", "picture"]
    one: str
    other: str
    likeness: float


def find_overlap(one: Sequence[Item], other: Sequence[Item]) -> list[Overlap]:
    """All pairs with the same id, similar texts or similar images, in the order of `one`."""
    ids = {item.id for item in other}
    found = [Overlap("id", item.id, item.id, 1.0) for item in one if item.id in ids]
    near = _near_texts([i for i in one if i.image is None], [i for i in other if i.image is None])
    near += _near_pictures([i for i in one if i.image], [i for i in other if i.image])
    found += [pair for pair in near if pair.one != pair.other]
    place = {item.id: number for number, item in enumerate(one)}
    return sorted(found, key=lambda pair: place[pair.one])


def _near_texts(one: Sequence[Item], other: Sequence[Item]) -> list[Overlap]:
    index: dict[str, list[int]] = defaultdict(list)
    known = []
    for number, item in enumerate(other):
        text = _plain(item.question)
        known.append((_ngrams(text), _numbers(text)))
        for gram in known[-1][0]:
            index[gram].append(number)
    found = []
    for item in one:
        text = _plain(item.question)
        grams, numbers = _ngrams(text), _numbers(text)
        shared = Counter(number for gram in grams for number in index.get(gram, ()))
        for number, count in shared.items():
            likeness = count / (len(grams) + len(known[number][0]) - count)
            if likeness >= LIKE_TEXT and numbers == known[number][1]:
                found.append(Overlap("text", item.id, other[number].id, likeness))
    return found


def _plain(text: str) -> str:
    """Letters and digits only, lower case, widths unified: punctuation and spacing are ignored in the comparison."""
    return "".join(letter for letter in nfkc(text[:MOST_COMPARED]).casefold() if letter.isalnum())


def _ngrams(text: str) -> set[str]:
    return {text[start : start + NGRAM] for start in range(max(1, len(text) - NGRAM + 1))}


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)


def _near_pictures(one: Sequence[Item], other: Sequence[Item]) -> list[Overlap]:
    if not one or not other:
        return []
    hashes, thumbs = _fingerprints(other)
    found = []
    for item, bits, thumb in zip(one, *_fingerprints(one), strict=True):
        differing = (hashes != bits).sum(axis=1)
        for number in np.flatnonzero(differing <= MOST_BITS):
            colours = float(np.abs(thumbs[number] - thumb).mean())
            if colours <= MOST_COLOUR:
                likeness = 1 - float(differing[number]) / HASH_SIDE**2
                found.append(Overlap("picture", item.id, other[int(number)].id, likeness))
    return found


def _fingerprints(items: Sequence[Item]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Hashes [items, 256 bits] and thumbnails [items, 16 x 16 x 3 values of 0 to 255]; each picture is opened once."""
    known: dict[Hashable, tuple[NDArray[np.bool_], NDArray[np.float32]]] = {}
    pairs = []
    for item in items:
        assert item.image is not None
        picture = getattr(item.image, "source", item.image)
        if picture not in known:
            known[picture] = _fingerprint(item.image())
        pairs.append(known[picture])
    return np.stack([bits for bits, _ in pairs]), np.stack([thumb for _, thumb in pairs])


def _fingerprint(image: Image.Image) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    rgb = image.convert("RGB")
    grey = np.asarray(rgb.convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), dtype=np.int16)
    thumb = np.asarray(rgb.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX), dtype=np.float32)
    return (grey[:, 1:] > grey[:, :-1]).ravel(), thumb.ravel()
