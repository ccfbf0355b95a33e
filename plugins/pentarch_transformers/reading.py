"""Strict reading of a model configuration: one value at a time, with the default of its library.

A `config.json` holds much that does not shape the model (dropout, token ids, library versions):
keys that nobody asks for are ignored. A number in quotes, a fraction or a boolean is no count. What
a file does not state is the default of the model type's own configuration class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pentarch.errors import FieldError
from pentarch.workload.layers import Activation

MOST = 10**9
"""Largest count that is read; far beyond any model."""
MOST_LAYERS = 10**5
"""Most layers of a stack; far beyond any model, and few enough to be told apart one by one."""

_ACTIVATIONS = {
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "quick_gelu": Activation.SILU,
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU,
    "gelu_fast": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_pytorch_tanh": Activation.GELU,
    "gelu_python_tanh": Activation.GELU,
    "gelu_accurate": Activation.GELU,
    "gelu_10": Activation.GELU,
    "relu": Activation.RELU,
    "relu6": Activation.RELU,
    "relu2": Activation.RELU_SQUARED,
    "sigmoid": Activation.SIGMOID,
    "tanh": Activation.TANH,
}


class Reader:
    """Typed access to one parsed configuration; every error names file and key.

    Args:
        config: The parsed configuration, unchecked.
        where: File that it comes from, for errors.
        other_names: Further names of keys: `{"n_embd": "hidden_size"}` reads either.
        prefix: Path of the configuration inside its file, with a dot at the end.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        where: str,
        *,
        other_names: Mapping[str, str] | None = None,
        prefix: str = "",
    ) -> None:
        self._config = config
        self._other_names = other_names or {}
        self._prefix = prefix
        self.where = where

    @property
    def model_type(self) -> str | None:
        """The kind of model, if the configuration says it."""
        found = self._config.get("model_type")
        return found if isinstance(found, str) else None

    def has(self, key: str) -> bool:
        """Return whether the key is there with a value that is not null."""
        return self._take(key, None)[1] is not None

    def says(self, key: str) -> bool:
        """Return whether the key is there, be it with null."""
        return key in self._config or self._other_names.get(key) in self._config

    def count(self, key: str, default: int, *, least: int = 1, most: int = MOST) -> int:
        """Return a whole number of at least `least`."""
        found = self._whole(key, default, least, most)
        if found is None:
            raise self.wrong(key, "found None", "a valid integer")
        return found

    def maybe(self, key: str, default: int | None = None, *, least: int = 1) -> int | None:
        """Return a whole number, or `None` where the configuration says null or nothing."""
        return self._whole(key, default, least, MOST)

    def layers(self, key: str, default: int) -> int:
        """Return the number of layers of a stack."""
        return self.count(key, default, most=MOST_LAYERS)

    def flag(self, key: str, default: bool) -> bool:
        """Return a truth value."""
        name, found = self._take(key, default)
        if not isinstance(found, bool):
            raise self.wrong(name, f"found {_shown(found)}", "a valid boolean")
        return found

    def maybe_flag(self, key: str) -> bool:
        """Return a truth value that may be null, which means false."""
        return self.flag(key, False) if self.has(key) else False

    def text(self, key: str, default: str) -> str:
        """Return a text."""
        name, found = self._take(key, default)
        if not isinstance(found, str):
            raise self.wrong(name, f"found {_shown(found)}", "a valid string")
        return found

    def activation(self, key: str, default: str) -> Activation:
        """Return an activation function by the name that configurations give it."""
        return self.named_activation(key, self.text(key, default))

    def named_activation(self, key: str, name: str) -> Activation:
        """Return the activation function called `name`, which was found at `key`."""
        if name not in _ACTIVATIONS:
            known = ", ".join(repr(entry) for entry in _ACTIVATIONS)
            raise self.wrong(key, f"found {_shown(name)}", known)
        return _ACTIVATIONS[name]

    def share(self, key: str, default: float) -> float:
        """Return a number from 0 to 1, such as the rotated part of a head."""
        name, found = self._take(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
            raise self.wrong(name, f"found {_shown(found)}", "a number from 0 to 1")
        return float(found)

    def part(self, key: str, *, required: bool = False) -> "Reader":
        """Return the reader of a configuration inside this one; an empty one if it is missing."""
        name, found = self._take(key, None)
        if found is None and not required:
            found = {}
        if not isinstance(found, Mapping):
            problem = "is missing" if found is None else f"found {_shown(found)}"
            raise self.wrong(name, problem, "a configuration in braces")
        return Reader(found, self.where, prefix=f"{self._prefix}{name}.")

    def text_tower(self, *known: str) -> "Reader":
        """Return the reader of `text_config`.

        Its `model_type`, if it says one, is one of `known` or that of the whole model.
        """
        tower = self.part("text_config")
        if tower.has("model_type") and tower.model_type not in (*known, self.model_type):
            found = _shown(self._config["text_config"]["model_type"])
            raise tower.wrong("model_type", f"found {found}", " or ".join(map(repr, known)))
        return tower

    def without(self, key: str) -> "Reader":
        """Return the reader of the same configuration without one key."""
        kept = {name: value for name, value in self._config.items() if name != key}
        return Reader(kept, self.where, other_names=self._other_names, prefix=self._prefix)

    def texts(self, key: str, *, length: int, known: Sequence[str]) -> list[str] | None:
        """Return one text for each layer, `None` if the configuration has no such list."""
        found = self.items(key, length=length)
        for index, value in enumerate(found or []):
            if value not in known:
                expected = ", ".join(repr(name) for name in known)
                raise self.wrong(f"{key}[{index}]", f"found {_shown(value)}", expected)
        return found

    def indices(self, key: str) -> frozenset[int] | None:
        """Return a list of layer indices as a set, `None` if there is no such list."""
        found = self.items(key)
        for index, value in enumerate(found or []):
            if isinstance(value, bool) or not isinstance(value, int):
                raise self.wrong(f"{key}[{index}]", f"found {_shown(value)}", "a layer's index")
        return None if found is None else frozenset(found)

    def items(self, key: str, *, length: int | None = None) -> list[Any] | None:
        """Return a list, `None` if the configuration has none."""
        name, found = self._take(key, None)
        if found is None:
            return None
        if not isinstance(found, list):
            raise self.wrong(name, f"found {_shown(found)}", "a list")
        if length is not None and len(found) != length:
            raise self.wrong(name, f"has {len(found)} entries", f"one for each of {length} layers")
        return found

    def pair(self, key: str) -> tuple[int, int] | None:
        """Return a list of two counts, `None` if the value is no list."""
        name, found = self._take(key, None)
        if not isinstance(found, list):
            return None
        if len(found) != 2 or not all(type(side) is int and 0 < side <= MOST for side in found):
            raise self.wrong(name, f"found {_shown(found)}", "two whole numbers of at least 1")
        return found[0], found[1]

    def size(self, key: str) -> int | None:
        """Return the number of entries of a table such as `id2label`; `None` if there is none."""
        name, found = self._take(key, None)
        if found is None:
            return None
        if not isinstance(found, Mapping | list) or not found:
            raise self.wrong(name, f"found {_shown(found)}", "a table with at least one entry")
        return len(found)

    def divides(self, whole: int, parts: int, key: str, what: str) -> int:
        """Return `whole / parts`; the error says that `parts` at `key` do not divide `what`."""
        if whole % parts:
            raise self.wrong(key, f"{parts} heads do not divide {what} {whole}",
                             f"a divisor of {what}")  # fmt: skip
        return whole // parts

    def wrong(self, key: str, problem: str, expected: str) -> FieldError:
        """Return the error about one key."""
        return FieldError(
            where=self.where, path=f"{self._prefix}{key}", problem=problem, expected=expected
        )

    def _whole(self, key: str, default: int | None, least: int, most: int) -> int | None:
        name, found = self._take(key, default)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int):
            raise self.wrong(name, f"found {_shown(found)}", "a valid integer")
        if found < least:
            limit = f"greater than {least - 1}"
            raise self.wrong(name, f"found {_shown(found)}", limit)
        if found > most:
            raise self.wrong(name, f"found {_shown(found)}", f"at most {most}")
        return found

    def _take(self, key: str, default: Any) -> tuple[str, Any]:
        """Return the name under which a key was found, and its value or the default."""
        other = self._other_names.get(key)
        if other is None or other not in self._config:
            return key, self._config.get(key, default)
        found = self._config[other]
        if key in self._config and self._config[key] != found:
            raise self.wrong(
                other, f"found {_shown(found)}",
                f"{_shown(self._config[key])}, the value of {key}, which is the same thing",
            )  # fmt: skip
        return other, found


def _shown(value: object) -> str:
    """Return a value as an error shows it; a huge integer has no text that Python would make."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return f"a number of about {value.bit_length() * 0.30103:.0f} digits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
