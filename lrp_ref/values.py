"""What every value of this package is: a dataclass that is frozen, equal by its fields, and prints as it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def value(cls: type[T], /) -> type[T]: ...
@overload
def value(*, kw_only: bool = ..., init: bool = ...) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def value(cls: type[T] | None = None, /, *, kw_only: bool = False, init: bool = True) -> Any:
    """``dataclasses.dataclass(frozen=True)``, whose methods are the ones below instead of compiled for each class.

    Compiling them was three quarters of what importing this package cost. A class that has an ``__eq__`` or a
    ``__repr__``, its own or inherited, keeps it. Rules, which users write, use the standard decorator: it refuses
    to make a frozen subclass of these.
    """
    if cls is None:
        return lambda cls: _made(cls, kw_only, init)
    return _made(cls, kw_only, init)


def _made(cls: type[T], kw_only: bool, init: bool) -> type[T]:
    made: Any = dataclasses.dataclass(cls, init=init, repr=False, eq=False, kw_only=kw_only)
    made.__setattr__, made.__delattr__ = _set_once, _keep
    own = {name for base in made.__mro__[:-1] for name in vars(base)}
    if "__repr__" not in own:
        made.__repr__ = _repr
    if "__eq__" not in own:
        made.__eq__, made.__hash__ = equal, hashed
    return made  # type: ignore[no-any-return]


def _set_once(self: Any, name: str, value: Any) -> None:
    field = self.__dataclass_fields__.get(name)
    if field is None or not field.init or name in vars(self):
        raise dataclasses.FrozenInstanceError(f"{type(self).__name__} is a value: cannot assign to {name!r}")
    object.__setattr__(self, name, value)


def _keep(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"{type(self).__name__} is a value: cannot delete {name!r}")


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.compare)


def equal(self: Any, other: Any) -> Any:
    """Whether both are of one class and have equal fields."""
    return _compared(self) == _compared(other) if type(self) is type(other) else NotImplemented


def hashed(self: Any) -> int:
    """The hash of the fields."""
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = (f"{f.name}={plain(getattr(self, f.name))!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__name__}({', '.join(shown)})"


def plain(number: Any) -> Any:
    """A parameter as it prints to be read again: numbers of NumPy's and flint's as Python's, equal to them."""
    from fractions import Fraction

    number = number.item() if getattr(number, "ndim", None) == 0 else number
    if isinstance(number, (int, float)):
        return number
    if hasattr(number, "as_integer_ratio"):  # longdouble, Fraction
        return Fraction(*number.as_integer_ratio())
    if hasattr(number, "numerator"):  # fmpq, fmpz
        return Fraction(int(number.numerator), int(number.denominator))
    return number
