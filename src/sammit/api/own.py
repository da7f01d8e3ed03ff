"""A method and adapters that were written outside of Sammit, in a notebook's cell, say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sammit import plugins
from sammit.config import Experiment
from sammit.errors import UserError

if TYPE_CHECKING:
    from sammit.methods.base import Method
    from sammit.models.adapters.base import Adapter


@dataclass(frozen=True)
class Own:
    """Classes of the user's own; see `plugins.lent` for their names and options."""

    method: type[Method] | None = None
    adapters: tuple[type[Adapter], ...] = ()

    @classmethod
    def of(cls, method: type[Method] | None, adapters: Sequence[type[Adapter]]) -> Own:
        """The classes, checked; raises UserError where one is something else."""
        if method is not None:
            from sammit.methods import base

            _need_class("method", method, base.Method)
        if isinstance(adapters, type):
            raise UserError(f"adapters: is a class; give a list of classes, [{adapters.__name__}]")
        if adapters:
            from sammit.models.adapters.base import AttentionAdapter, BlockAdapter

            for one in adapters:
                _need_class("adapters", one, BlockAdapter, AttentionAdapter)
        return cls(method, tuple(adapters))

    @contextmanager
    def lent(self) -> Iterator[None]:
        """While the context lasts, Sammit finds the classes as it finds files."""
        methods = [] if self.method is None else [self.method]
        with plugins.lent("methods", methods), plugins.lent("adapters", self.adapters):
            yield

    def check_used(self, experiment: Experiment) -> None:
        """Raise UserError where an experiment has another method than the one given, or no place for an adapter."""
        if self.method is not None and (name := plugins.name_of(self.method)) != experiment.method.name:
            raise UserError(
                f"class {self.method.__name__}: is '{name}', and the run's method is '{experiment.method.name}'; "
                "give the class that it was run with, or none where it is a file"
            )
        for one in self.adapters:
            name = plugins.name_of(one)
            if name not in experiment.model.adapter:
                raise UserError(
                    f"class {one.__name__}: is '{name}' in a recipe, and model.adapter = "
                    f"{list(experiment.model.adapter)} lacks it; add it there, or leave the class out"
                )


def _need_class(where: str, one: Any, *bases: type[Any]) -> None:
    if not (isinstance(one, type) and issubclass(one, bases) and one not in bases):
        known = " or ".join(f"{base.__module__}.{base.__name__}" for base in bases)
        raise UserError(f"{where}: {one!r} is no class that inherits from {known}; give such a class itself")
