"""The frozen pydantic base that every public data type is built on."""

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from pentarch.errors import FieldError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

M = TypeVar("M", bound=BaseModel)


class _Fields:
    """The fields of a model, described when somebody looks at them."""

    def __get__(self, instance: object, owner: type[BaseModel]) -> "dict[str, FieldInfo]":
        texts = field_texts(owner)
        for name, field in owner.__pydantic_fields__.items():
            if field.description is None:
                field.description = texts.get(name)
        return owner.__pydantic_fields__


class Model(BaseModel):
    """Frozen data: no unknown keys, no NaN, and the string under a field is its manual."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # listing plug-ins imports models that it never fills
        ser_json_inf_nan="null",
        ignored_types=(_Fields,),
    )

    # pydantic's `use_attribute_docstrings` reads the source of every model when it is imported.
    if not TYPE_CHECKING:
        model_fields = _Fields()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: "CoreSchema", handler: GetJsonSchemaHandler
    ) -> "JsonSchemaValue":
        made = handler(core_schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        texts = field_texts(cls)
        for name, field in cls.__pydantic_fields__.items():
            shown = properties.get(field.alias or name, properties.get(name))
            if name not in texts or shown is None:
                continue
            # What a field refers to may say the same of itself.
            meant = handler.resolve_ref_schema(shown) if "$ref" in shown else {}
            if meant.get("description") != texts[name]:
                shown.setdefault("description", texts[name])
        return made

    def replace(self, **changes: Any) -> Self:
        """Return a copy with `changes`, validated again.

        Raises:
            FieldError: A changed field has a wrong value.
        """
        values = {name: getattr(self, name) for name in type(self).__pydantic_fields__}
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
            values = {name: getattr(self, name) for name in type(self).__pydantic_fields__}
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


@cache
def field_texts(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the strings under the fields of a model, inherited ones included, by field.

    They are read from the source when they are asked for; without a source there are none.
    """
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            own = _texts_of(owner.__module__).get(owner.__qualname__, {})
            for name in inspect.get_annotations(owner):
                found.pop(name, None)  # annotated anew: its text is the new one, if it has any
                if name in own:
                    found[name] = own[name]
    return MappingProxyType(found)


@cache
def _texts_of(module: str) -> Mapping[str, Mapping[str, str]]:
    """Return the strings under annotated names by qualified name of their class."""
    found: dict[str, Mapping[str, str]] = {}

    def visit(body: Iterable[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                found[prefix + node.name] = _texts_under(node.body)
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                visit(node.body, f"{prefix}{node.name}.<locals>.")

    try:
        visit(ast.parse(inspect.getsource(sys.modules[module])).body, "")
    except (KeyError, OSError, TypeError):  # made in an interpreter
        return {}
    return found


def _texts_under(body: list[ast.stmt]) -> dict[str, str]:
    found: dict[str, str] = {}
    for node, below in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            value = below.value if isinstance(below, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[node.target.id] = inspect.cleandoc(value.value)
    return found


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
        raise field_error(error, where=where, known=model.__pydantic_fields__) from None


def field_error(error: ValidationError, *, where: str, known: Iterable[str] = ()) -> FieldError:
    """Return the first problem of a pydantic error as pentarch's own error.

    Args:
        error: What pydantic found.
        where: File or model, for the message.
        known: Fields of the model, among which an unknown one may be a misspelling.
    """
    from difflib import get_close_matches

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
