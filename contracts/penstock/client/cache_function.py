"""`@ps.cache.cached`: the key, tags and value type of a decorated function. Never any I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import Any, ParamSpec, Protocol, TypeVar

from penstock.client.cache_key import TagTemplate, key_of
from penstock.client.cache_value import ValueType, returned_by
from penstock.contracts.errors import InvalidMessage

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class CachedFunction(Protocol[P, T_co]):
    """A function whose results are cached. `key` tells where the result of one call is kept."""

    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T_co]:
        """The cached result for these arguments, or the function's own, then cached."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of one call, to give to `ps.cache.delete` or `ps.cache.why`."""
        ...


class Call:
    """What the cache must know of the calls of one function."""

    def __init__(
        self, function: Callable[..., Any], prefix: str, tags: Sequence[str], version: int
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise InvalidMessage(
                f"{getattr(function, '__qualname__', function)!r} is no async function; "
                "`cached` takes those only: declare it with `async def`."
            )
        if isinstance(tags, str):
            raise InvalidMessage(f"Tags are a list: write [{tags!r}].")
        self._function = function
        self._prefix = f"{prefix}/{function.__module__}.{function.__qualname__}/{version}"
        self._signature = inspect.signature(function)
        self._tags = [TagTemplate(tag, list(self._signature.parameters)) for tag in tags]

    @cached_property
    def returns(self) -> ValueType:
        """The type of its results; looked up late, because it may be defined below."""
        return returned_by(self._function)

    def bound(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        """The arguments by parameter, defaults included: however they were passed.

        Raises TypeError, as the call itself would.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def key(self, arguments: Mapping[str, Any]) -> str:
        """The key of one call: function, version, type of result and arguments."""
        return key_of(f"{self._prefix}/{self.returns.schema}", arguments)

    def tags(self, arguments: Mapping[str, Any]) -> list[str]:
        """The tags of one call."""
        return [tag.of(arguments) for tag in self._tags]
