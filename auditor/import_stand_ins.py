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
        _remove(self.__name__, self)
        return getattr(importlib.import_module(self.__name__), name)


def _remove(name: str, stand_in: object) -> None:
    if sys.modules.get(name) is stand_in:
        del sys.modules[name]


@contextmanager
def stand_ins(*names: str, **others: object) -> Iterator[None]:
    """Replace modules by stand-ins during a block; after it, imports get the real modules.

    Args:
        names: Full names of modules; those already imported stay.
        others: Objects to take the place of other modules, with the attributes that the block takes from them.

    """
    wanted = {name: _StandIn(name) for name in names} | others
    made = {name: stand_in for name, stand_in in wanted.items() if name not in sys.modules}
    sys.modules.update(made)  # type: ignore[arg-type] # imports return whatever is there
    try:
        yield
    finally:
        for name, stand_in in made.items():
            _remove(name, stand_in)
