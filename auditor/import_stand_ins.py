"""Import libraries without modules that they import and that are not used here; they are a fourth of the start.

During the import, stand-ins take the place of such modules. A stand-in forwards every attribute to the real module,
which it imports at the first access.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class _StandIn(ModuleType):
    """Forwards to the module of the same name, imported at the first access to an attribute."""

    def __getattr__(self, name: str) -> object:
        _remove(self)
        return getattr(importlib.import_module(self.__name__), name)


def _remove(stand_in: ModuleType) -> None:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]


@contextmanager
def stand_ins(*names: str) -> Iterator[None]:
    """Replace modules by stand-ins during a block; after it, imports get the real modules.

    Args:
        names: Full names of modules; those already imported stay.

    """
    made = [_StandIn(name) for name in names if name not in sys.modules]
    sys.modules.update({each.__name__: each for each in made})
    try:
        yield
    finally:
        for each in made:
            _remove(each)
