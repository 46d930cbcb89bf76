"""What the type checker takes from `typing`, without importing it: that would be a tenth of a program's start-up."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False  # a type checker takes it for true

if TYPE_CHECKING:
    from typing import Any as Any
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import TypeVar as TypeVar
else:
    Any = NoReturn = Protocol = object  # nobody asks for them at run time
    TypeVar = str

    class _Named(type):
        """Makes a namedtuple of a class whose annotations are its fields."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body.pop("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            return type(name, (made,), {"__slots__": (), **body})

    NamedTuple = _Named("NamedTuple", (), {})
