"""The frozen pydantic base that every public data type is built on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from pentarch.errors import FieldError

M = TypeVar("M", bound=BaseModel)


class Model(BaseModel):
    """Frozen data: no unknown keys, no NaN, and the string under a field is its manual."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # listing plug-ins imports models that it never fills
        ser_json_inf_nan="null",
    )

    def replace(self, **changes: Any) -> Self:
        """Return a copy with `changes`, validated again.

        Raises:
            FieldError: A changed field has a wrong value.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return load(type(self), {**values, **changes}, where=type(self).__name__)


class DeferredModel(Model):
    """Data of which some fields may be computed when they are first asked for.

    Whoever looks at the whole (equality, copies, JSON, `repr`, pickling) gets every field, in the
    order in which they are declared: a model with deferred fields and one without cannot be told
    apart.
    """

    _deferred: dict[str, Callable[[], object]] = PrivateAttr(default_factory=dict)

    def defer(self, **fields: Callable[[], object]) -> Self:
        """Return a copy whose fields are computed when they are first asked for.

        Args:
            fields: What computes each field; trusted to return what the field declares, and the
                same whenever it is called.
        """
        copied = self.model_copy()
        for name in fields:
            copied.__dict__.pop(name, None)
        copied._deferred.update(fields)  # a dictionary of its own: `__copy__` made it
        return copied

    def settle(
        self, values: Mapping[str, object], deferred: Mapping[str, Callable[[], object]]
    ) -> Self:
        """Set fields of a model that was just made and that nobody else has seen, and return it.

        Args:
            values: Fields that are valid already.
            deferred: As in `defer`.
        """
        own = self.__dict__
        own.update(values)
        self.__pydantic_fields_set__.update(values)
        for name in deferred:
            own.pop(name, None)
        self._deferred.update(deferred)
        return self

    def complete(self) -> Self:
        """Compute every field that was deferred, and return the model itself."""
        if self._deferred:
            values = {name: getattr(self, name) for name in type(self).model_fields}
            object.__setattr__(self, "__dict__", values)  # in order, as if they had never lacked
            self._deferred.clear()
        return self

    if not TYPE_CHECKING:  # for a type-checker every field is there

        def __getattr__(self, name: str) -> Any:
            private = object.__getattribute__(self, "__pydantic_private__") or {}
            compute = private.get("_deferred", {}).get(name)
            if compute is None:
                # Another thread may have completed the model since this one missed the field.
                known = self.__dict__
                return known[name] if name in known else super().__getattr__(name)
            value = self.__dict__[name] = compute()
            return value

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DeferredModel):
            other.complete()
        self.complete()
        return super().__eq__(other)

    __hash__ = Model.__hash__

    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # as pydantic's own
        self.complete()
        return super().__iter__()

    def __repr_args__(self) -> Any:
        self.complete()
        return super().__repr_args__()

    def __copy__(self) -> Self:
        self.complete()
        copied = super().__copy__()
        copied.__pydantic_private__ = {"_deferred": {}}
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        self.complete()
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[Any, Any]:
        self.complete()
        return super().__getstate__()

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self.complete())


def load(model: type[M], values: Mapping[str, Any], *, where: str) -> M:
    """Return `values` as a validated `model`.

    Args:
        model: The model class.
        values: Its fields, as parsed from YAML or JSON or given in Python.
        where: File or object the values come from, for the error.

    Raises:
        FieldError: A field is missing, unknown or has a wrong value; the first one is named
            with its path, the count of further ones is said.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise field_error(error, where=where, known=model.model_fields) from None


def field_error(error: ValidationError, *, where: str, known: Iterable[str] = ()) -> FieldError:
    """Return the first problem of a pydantic error as pentarch's own error.

    Args:
        error: What pydantic found.
        where: File or model, for the message.
        known: Fields of the model, among which an unknown one may be a misspelling.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    path = _path(first["loc"])
    found = first.get("input")
    shown = repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    problem, expected = _describe(first["type"], first["msg"], shown)
    if first["type"] == "extra_forbidden" and (meant := get_close_matches(path, known, n=1)):
        expected = f"{meant[0]!r}, or another of {expected.removeprefix('only ')}"
    more = len(problems) - 1
    if more:
        others = ", ".join(_path(p["loc"]) for p in problems[1:4])
        expected += f" ({more} more: {others}{', ...' if more > 3 else ''})"
    return FieldError(where=where, path=path, problem=problem, expected=expected)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else (f".{part}" if path else str(part))
    return path


def _describe(kind: str, message: str, shown: str) -> tuple[str, str]:
    if kind == "missing":
        return "is missing", "a value"
    if kind == "extra_forbidden":
        return (
            f"is not a known field (value {shown})",
            "only the fields that `pentarch schema` lists",
        )
    expected = message.removeprefix("Input should be ").removeprefix("Value error, ")
    return f"found {shown}", expected[:1].lower() + expected[1:].rstrip(".")
