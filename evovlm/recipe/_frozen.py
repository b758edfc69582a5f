"""The base class of a recipe's parts: immutable, strict, and with digests that stay valid when keys are added.

Does not know what a recipe contains.
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from evovlm.system.bounded_yaml import kind_of

# The serialisation context for digests: keys marked LATER are omitted if they have their default.
FOR_DIGEST = "for a digest"


class _Later:
    """The type of LATER, so that a field's metadata can be searched for it."""

    def __repr__(self) -> str:
        return "LATER"


# Marks a key that was added to the schema after recipes had digests:
#     depth: Annotated[int, LATER] = Field(default=1, ge=1)
# A recipe without the key, or with its default, keeps its old digest, so the default must mean what was done before
# the key existed. Any other value enters the digest.
LATER = _Later()


class Frozen(BaseModel):
    """An immutable model in which a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    later: ClassVar[tuple[str, ...]] = ()  # the fields that are marked LATER
    # The keys of fields that are never true or false, and what is asked for in place of such a value.
    not_flags: ClassVar[dict[str, str]] = {}
    # What to give for it, where that is not only a mapping.
    shape: ClassVar[str] = ""
    # The keys whose values may be mappings to what is never true or false.
    tables: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.later = tuple(name for name, field in cls.model_fields.items() if LATER in field.metadata)
        for name in cls.later:
            assert not cls.model_fields[name].is_required(), f"{cls.__name__}.{name}: LATER needs a default"
        kinds = {
            key: field.annotation
            for name, field in cls.model_fields.items()
            for key in (name, field.alias)
            if key is not None and not _holds(field.annotation, bool)
        }
        cls.not_flags = {key: _wanted(kind) for key, kind in kinds.items()}
        cls.tables = frozenset(key for key, kind in kinds.items() if _holds(kind, dict))

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_kinds(cls, content: Any) -> Any:
        """Refuse a list or a text where settings stand, with an example; pydantic would name this class instead."""
        if not isinstance(content, dict | cls):
            raise ValueError(
                f"is {kind_of(content)}; {cls.shape or f'give a mapping such as `{_first_key(cls)}: ...`'}"
            )
        return content

    @model_validator(mode="before")
    @classmethod
    def _refuse_flags(cls, content: Any) -> Any:
        """Refuse `trials: yes`, which YAML reads as true, and pydantic as 1."""
        for key, wanted in cls.not_flags.items() if isinstance(content, dict) else ():
            value = content.get(key)
            for one in value.values() if key in cls.tables and isinstance(value, dict) else (value,):
                if isinstance(one, bool):
                    raise ValueError(f"{key}: is read as {str(one).lower()}; {wanted}")
        return content

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if info.context == FOR_DIGEST:
            for name in self.later:
                field = type(self).model_fields[name]
                if getattr(self, name) == field.get_default(call_default_factory=True):
                    content.pop((field.alias if info.by_alias else None) or name, None)
        return content


def _wanted(annotation: Any) -> str:
    """What to give for a key that is never true or false."""
    parts = [annotation, *get_args(annotation)]
    settings = next((part for part in parts if isinstance(part, type) and issubclass(part, Frozen)), None)
    if settings is not None and not any(_holds(annotation, kind) for kind in (int, float, str)):
        return f"give its settings, such as `{_first_key(settings)}`, or remove it"
    return "give a number, or put a text in quotes"


def _first_key(kind: type[BaseModel]) -> str:
    name, field = next(iter(kind.model_fields.items()))
    return field.alias or name


def _holds(annotation: Any, kind: type) -> bool:
    """Whether an annotation is a type, or a union or other composition with it."""
    return kind in (annotation, get_origin(annotation)) or any(_holds(part, kind) for part in get_args(annotation))
