"""A recipe's search, validation and test items, and the checks that they do not overlap.

Knows recipes and tasks; no models. Each set carries its own task, so its items are always prompted and scored by that
task's rules. A recipe is refused if two sets share an id. Search items that look like a validation or test item
(`overlap`) are left out and counted; if they are more than `MOST_LEFT_OUT` of the set, the recipe is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Protocol, overload

from evovlm.models.chat_templates import stored_template, template_fault, template_file
from evovlm.models.token_ids import IMAGE_TOKEN
from evovlm.recipe.schema import Data, Recipe
from evovlm.recipe.where import split_where
from evovlm.system.errors import RecipeError, UserError
from evovlm.system.files import counted_from
from evovlm.tasks import HubSet, Item, Options, Task, hub_set_of, parse_split
from evovlm.tasks.overlap import find_overlap

# Enough for confidence intervals of a few points; the sweeps and the choice among ten candidates need fewer.
ITEMS = {"validation": 300, "test": 500}
MOST_LEFT_OUT = 0.05
TEST_SET = "{where} is a test set; search on another split"


@dataclass(frozen=True)
class ItemSet(Sequence[Item]):
    """Items together with their task, which supplies prompt, generation settings and score.

    `name`: what the set is for (search, validation, test). `where`: the items' origin, TASK:SPLIT or TASK@PATH:SPLIT.
    Behaves as a sequence of its items; a slice is an ItemSet again.
    """

    name: str
    where: str
    task: Task
    items: tuple[Item, ...]

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> ItemSet: ...

    def __getitem__(self, place: int | slice) -> Item | ItemSet:
        return self.of(self.items[place]) if isinstance(place, slice) else self.items[place]

    def __len__(self) -> int:
        return len(self.items)

    def of(self, items: Iterable[Item]) -> ItemSet:
        """A set of the given items with the same task."""
        return replace(self, items=tuple(items))

    @property
    def pictures(self) -> tuple[int, ...]:
        """See `numbered_pictures`."""
        return numbered_pictures(self.items)

    def at(self, places: Iterable[int]) -> ItemSet:
        """The items at these places, in this order."""
        return self.of(self.items[place] for place in places)


@dataclass(frozen=True)
class ItemSets:
    """A recipe's sets. `validation`: None if the recipe names none.

    `left_out`: number of search items removed because they are too similar to validation or test items. `commits`: of
    the data sets that came from the hub, by repository.
    """

    search: ItemSet
    validation: ItemSet | None
    test: ItemSet
    left_out: int
    commits: dict[str, str] = field(default_factory=dict)

    @property
    def choice(self) -> ItemSet:
        """The set on which the winner and the best point of a control are chosen: validation if given, else search."""
        return self.search if self.validation is None else self.validation


class AboutPicture(Protocol):
    """A question or an answer: its id, and a hash of the picture that it is about ("" for none)."""

    @property
    def id(self) -> str:
        """Unique among the items."""

    @property
    def picture(self) -> str:
        """See `Item.picture`."""


def numbered_pictures(items: Sequence[AboutPicture]) -> tuple[int, ...]:
    """The number of each item's picture, in the order in which they first occur; empty if no two items share one.

    Two pictures are the same if their content is.
    """
    numbers: dict[tuple[str, str], int] = {}
    found = [numbers.setdefault((one.picture, "" if one.picture else one.id), len(numbers)) for one in items]
    return tuple(found) if len(numbers) < len(found) else ()


def data_of(recipe: Recipe) -> Data:
    """The recipe's data. Raises RecipeError if it has none."""
    if recipe.data is None:
        raise RecipeError("data: the recipe names no data; give `search` and `test`, such as zoo-vqa:search")
    return recipe.data


def data_options(recipe: Recipe, *, download: bool) -> Options:
    """How a recipe's search, validation and test items are read: with its preset, at its revisions."""
    data = data_of(recipe)
    return Options(preset=data.preset, download=download, revisions=data.revisions, whole_pictures=data.whole_pictures)


def hub_sets(recipe: Recipe) -> dict[str, HubSet]:
    """The data sets on the hub that a recipe's items come from, by repository."""
    data, searches = recipe.data, [recipe.search, None if recipe.then is None else recipe.then.search]
    named = [] if data is None else [where for where in (data.search, data.validation, data.test) if where is not None]
    named += [where for search in searches if search is not None for where in search.objectives]
    return {found.repository: found for found in map(hub_set_of, named) if found is not None}


def refuse_unread(recipe: Recipe) -> None:
    """Raise RecipeError if `data.revisions` names a data set that none of the recipe's tasks reads from the hub."""
    read = hub_sets(recipe)
    for repository in recipe.data.revisions if recipe.data is not None else ():
        if repository not in read:
            choices = f"choose from {sorted(read)}" if read else "leave `revisions` out"
            raise RecipeError(f"data.revisions: no task of this recipe reads {repository!r} from the hub; {choices}")


def unknown_data(recipe: Recipe, root: Path) -> Iterator[tuple[str, str, bool]]:
    """The keys of a recipe's data that a search could not read, each with what is wrong; no data is read.

    Whether it is an error, or else only to be noted: a file that is not here may be put there before the search.
    """
    if recipe.data is None:
        return
    told: set[str] = set()
    for name in ("search", "validation", "test"):
        key, where = f"data.{name}", getattr(recipe.data, name)
        if where is None:
            continue
        try:
            task, split = parse_split(where, data_options(recipe, download=False), root, key=key)
        except UserError as error:  # such as one on the preset, which is that of all three
            if str(error) not in told:
                yield key, str(error).removeprefix(f"{key}: "), True
            told.add(str(error))
            continue
        if key == "data.search" and split in task.test_splits:
            yield key, TEST_SET.format(where=where), True
        path = split_where(where)[1]
        if path is not None and not counted_from(root, path).exists():
            yield key, f"{counted_from(root, path)}: no such file or folder; a search needs it", False
    try:
        refuse_unread(recipe)
    except RecipeError as error:
        key, _, text = str(error).partition(": ")
        yield key, text, True


def why_not_in_chat(recipe: Recipe, root: Path, owner: Path) -> tuple[str, str] | None:
    """Key and reason why a recipe's questions cannot be asked in a chat template, as its preset says; None if they can.

    owner: the folder of the model whose template the output has, unless the recipe gives another. Raises
    CheckpointError for a template's file that cannot be read.
    """
    data = recipe.data
    if data is None:
        return None
    options = data_options(recipe, download=False)
    named = [where for where in (data.search, data.validation, data.test) if where is not None]
    asked = [parse_split(where, options, root)[0].generation for where in named]
    chats = [generation.template for generation in asked if generation.chat]
    if not chats:
        return None
    template = recipe.chat_template if recipe.chat_template is not None else stored_template(owner)
    if template is None:
        return "data.preset", (
            f"{data.preset} asks in the owner's chat template, and there is none in {owner}; put its"
            " chat_template.jinja there, give the recipe a `chat_template`, or choose another preset"
        )
    fault = template_fault(template, sees=any(IMAGE_TOKEN in text for text in chats))
    if fault is None:
        return None
    if recipe.chat_template is not None:
        return "chat_template", f"the template {fault}; correct it, or remove the key"
    where = template_file(str(owner))
    return "data.preset", (
        f"{where}: the chat template {fault}; correct it, give the recipe a `chat_template`, or choose another preset"
    )


def read_item_set(
    name: str,
    where: str,
    count: int | None,
    seed: int,
    *,
    options: Options | None = None,
    root: Path | None = None,
    key: str = "data",
) -> ItemSet:
    """At most `count` items of a split, with its task. A path in `where` is relative to `root`.

    Raises RecipeError, which calls `where` by its `key`, for an unknown task or split, and DataError if the data
    cannot be read.
    """
    task, split = parse_split(where, options, root, key=key)
    return ItemSet(name, where, task, tuple(task.items(split, count, seed)))


def read_item_sets(
    recipe: Recipe, root: Path, *, count: int | None, seed: int, judged: int | None, download: bool
) -> ItemSets:
    """All sets of a recipe, without overlap. Data paths are relative to `root`.

    `count`: search items at most; `judged`: items at most in validation and test (None: the defaults in `ITEMS`).
    Raises RecipeError for unknown or overlapping data or a search on a test split, DataError if data cannot be read.
    """
    data = data_of(recipe)
    refuse_unread(recipe)
    options = data_options(recipe, download=download)
    task, split = parse_split(data.search, options, root, key="data.search")
    if split in task.test_splits:
        raise RecipeError(f"data.search: {TEST_SET.format(where=data.search)}")
    search = ItemSet("search", data.search, task, tuple(task.items(split, count, seed)))
    judging = {
        name: read_item_set(name, where, judged or ITEMS[name], seed, options=options, root=root, key=f"data.{name}")
        for name, where in (("validation", data.validation), ("test", data.test))
        if where is not None
    }
    refuse_shared({"search": search, **judging})
    kept = search.of(clear_of(search, judging))
    if "validation" in judging:  # the winner is picked on it; a few items that are alike change no pick
        clear_of(judging["validation"], {"test": judging["test"]}, "validation")
    return ItemSets(kept, judging.get("validation"), judging["test"], len(search) - len(kept), options.commits)


def items_hash(items: Sequence[Item]) -> str:
    """A hash of the items' ids, questions, references and images: 32 hexadecimal digits."""
    return blake2b("\n".join(item.key for item in items).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def refuse_shared(named: Mapping[str, Sequence[Item]]) -> None:
    """Raise RecipeError if two sets share an item: a search must never see its validation or test items.

    An id that two files give to questions about different pictures, such as one made from text and line, is not shared;
    pictures that only look alike are found by `clear_of`.
    """
    names = list(named)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            known = {item.id: item for item in named[one]}
            shared = {item.id for item in named[other] if item.id in known and _same(item, known[item.id])}
            if shared:
                raise RecipeError(
                    f"data: {one} and {other} share {len(shared)} items, {sorted(shared)[0]} among them;"
                    " choose splits that are disjoint"
                )


def _same(one: Item, other: Item) -> bool:
    """Whether two items with one id are the same: unless their texts are equal and their pictures differ."""
    texts = (one.question, one.references) == (other.question, other.references)
    return not texts or one.picture == other.picture


def clear_of(items: Sequence[Item], judging: Mapping[str, Sequence[Item]], of: str = "search") -> list[Item]:
    """The items without those that look like an item of a judging set. `of`: the name of their own set.

    Raises RecipeError if these are more than the share `MOST_LEFT_OUT` of the items.
    """
    alike: dict[str, str] = {}
    for name, others in judging.items():
        for pair in find_overlap(items, others):
            alike.setdefault(pair.one, f"{pair.kind} of {name} item {pair.other}, {pair.likeness:.0%} alike")
    if len(alike) > MOST_LEFT_OUT * len(items):
        item, told = next(iter(alike.items()))
        raise RecipeError(
            f"data: {len(alike)} of {len(items)} {of} items look like {' or '.join(judging)} items ({item}: {told});"
            f" give other data for {of}"
        )
    return [item for item in items if item.id not in alike]
