"""What a function that users declare takes and gives, as JSON decoders; and which functions may be declared at all."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Raw

from actors.errors import DefinitionError

ARGUMENTS = msgspec.json.Decoder(tuple[list[Raw], dict[str, Raw]])
PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_function(fn: Any, what: str) -> None:
    """Refuse what could not be found again after a restart. Raises DefinitionError."""
    if not inspect.isfunction(fn):
        raise DefinitionError(f"a {what} is a function, not {fn!r}")
    if fn.__qualname__ != fn.__name__ or fn.__name__ == "<lambda>" or fn.__closure__:
        raise DefinitionError(
            f"{what} {fn.__qualname__!r} is not a module-level function",
            hint="Closures, lambdas and methods cannot be found after a restart; define it at the top of a module.",
        )


def check_transaction(fn: Callable[..., Any]) -> None:
    """Refuse what could wait, or takes no transaction. Raises DefinitionError."""
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DefinitionError(
            f"transaction {fn.__name__} is not a plain function",
            hint="It runs between two records of its run and cannot wait: declare it with def, or as a step.",
        )
    first = next(iter(inspect.signature(fn).parameters.values()), None)
    if first is None or first.kind not in PLAIN:
        raise DefinitionError(f"transaction {fn.__name__} does not take the transaction as its first parameter")


def decoder_of(annotation: Any, where: str) -> msgspec.json.Decoder[Any]:
    """The JSON decoder of an annotated type. Raises DefinitionError."""
    try:
        return msgspec.json.Decoder(annotation)
    except TypeError as error:
        raise DefinitionError(f"{where}: {error}", hint="Use types that msgspec can carry as JSON.") from error


class Signature:
    """The parameters and the result of a step, as JSON decoders; hints are resolved at first use, so that a module
    may declare its types after its steps. The first `given` parameters are not of a call: whoever runs it gives them.
    """

    def __init__(self, fn: Callable[..., Any], given: int = 0) -> None:
        self.fn = fn
        whole = inspect.signature(fn)
        listed = list(whole.parameters.values())[given:]
        self.parameters = whole.replace(parameters=listed)
        self.positional = [p for p in listed if p.kind in PLAIN]
        self.simple = len(self.positional) == len(listed)
        self.required = sum(p.default is inspect.Parameter.empty for p in self.positional)
        self._by_count: dict[int, msgspec.json.Decoder[Any]] = {}

    @cached_property
    def hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self.fn, include_extras=True)
        except Exception as error:  # whatever a user's annotation raises is a wrong declaration
            raise DefinitionError(f"{self.fn.__name__}: its annotations do not resolve: {error}") from error

    @cached_property
    def result(self) -> msgspec.json.Decoder[Any]:
        return decoder_of(self.hints.get("return", Any), f"the result of {self.fn.__name__}")

    def accepts(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError, as a call would, where the arguments do not fit."""
        if self.simple and not kwargs and self.required <= len(args) <= len(self.positional):
            return
        try:
            self.parameters.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.fn.__name__}() {error}") from None

    def decode(self, raw: Raw | bytes) -> tuple[Any, Mapping[str, Any]]:
        """Recorded arguments (`[[positional], {keywords}]`) as values of the annotated types.

        Raises msgspec.ValidationError naming the path."""
        args, kwargs = ARGUMENTS.decode(raw)
        if self.simple and not kwargs and len(args) <= len(self.positional):
            return self.positional_decoder(len(args)).decode(raw)[0], {}
        values = [self._parameter(i).decode(value) for i, value in enumerate(args)]
        return values, {name: self._keyword(name).decode(value) for name, value in kwargs.items()}

    def positional_decoder(self, count: int) -> msgspec.json.Decoder[Any]:
        """Decodes recorded arguments, `count` positional ones and no keywords, in one pass; they are its first item."""
        decoder = self._by_count.get(count)
        if decoder is None:
            types = tuple(self.hints.get(p.name, Any) for p in self.positional[:count])
            inner: Any = tuple[types] if types else tuple[()]  # type: ignore[valid-type]
            decoder = decoder_of(tuple[inner, dict[str, Any]], f"the arguments of {self.fn.__name__}")
            self._by_count[count] = decoder
        return decoder

    def _parameter(self, index: int) -> msgspec.json.Decoder[Any]:
        if index < len(self.positional):
            return self._keyword(self.positional[index].name)
        variadic = [p for p in self.parameters.parameters.values() if p.kind is inspect.Parameter.VAR_POSITIONAL]
        return self._keyword(variadic[0].name) if variadic else decoder_of(Any, self.fn.__name__)

    def _keyword(self, name: str) -> msgspec.json.Decoder[Any]:
        if name not in self.parameters.parameters:
            named = self.parameters.parameters.values()
            name = next((p.name for p in named if p.kind is inspect.Parameter.VAR_KEYWORD), name)
        return decoder_of(self.hints.get(name, Any), f"argument {name} of {self.fn.__name__}")

    def check(self) -> None:
        """Resolve everything now; raises DefinitionError."""
        _ = self.result
        for count in range(self.required, len(self.positional) + 1):
            self.positional_decoder(count)
