"""Breaks a module of the product in memory: the mutants that the property has to find."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import FunctionType, ModuleType

import pytest


@dataclass(frozen=True)
class Mutant:
    """One thing that somebody could get wrong.

    Attributes:
        mistake: in words.
        module: where it is made.
        right: a piece of the source, which occurs once.
        wrong: what stands there instead.
    """

    mistake: str
    module: ModuleType
    right: str
    wrong: str

    def __str__(self) -> str:
        return self.mistake

    def lives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the module's functions do what the changed source says, for as long as the test runs.

        Functions keep their identity and change their code, so that it doesn't matter how others imported them.
        """
        source = inspect.getsource(self.module)
        assert source.count(self.right) == 1, f"{self.module.__name__} has changed: where is {self.right!r}?"
        changed: dict[str, object] = {"__name__": self.module.__name__}
        code = compile(source.replace(self.right, self.wrong), str(self.module.__file__), "exec")
        # The definitions go to a namespace of their own.
        exec(code, changed)
        touched = 0
        for name, function in vars(self.module).items():
            other = changed.get(name)
            if not isinstance(function, FunctionType) or not isinstance(other, FunctionType):
                continue
            if function.__module__ == self.module.__name__ and function.__code__ != other.__code__:
                monkeypatch.setattr(function, "__code__", other.__code__)
                touched += 1
        assert touched, "the mutant does what the original does"
