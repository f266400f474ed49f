"""The tables of `idioms` together with what a project's settings add to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from flor_transform.analysis import idioms
from flor_transform.settings import Settings


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Answers by name. A call is given as it is written (`np.random.shuffle`); its last part is enough to match."""

    settings: Settings

    def is_environment(self, name: str) -> bool:
        return name in self._environments or bool(idioms.ENVIRONMENT_NAME.search(name))

    def is_replay(self, name: str) -> bool:
        """Whether a variable is a replay buffer."""
        return name in self._environments or bool(idioms.REPLAY_NAME.search(name))

    def holds_data(self, name: str) -> bool:
        """Whether a variable holds data, options or a way of talking to the user: nothing that training changes."""
        return name in self._loaders or bool(idioms.NO_STATE_NAME.search(name))

    def is_pure_method(self, path: str) -> bool:
        """Whether a method leaves its object as it was."""
        if _named(path, self._mutating):
            return False
        return _named(path, self._harmless) or _last(path) in idioms.PURE_METHODS

    def is_harmless(self, path: str) -> bool:
        """Whether a function leaves its arguments as they were."""
        if _named(path, self._mutating):
            return False
        return _named(path, self._harmless) or _last(path) in idioms.PURE_CALLS

    def changes_argument(self, path: str, index: int) -> bool:
        """Whether a function or method is known to change its positional argument `index`."""
        if _named(path, self._harmless):
            return False
        return _named(path, self._mutating) or idioms.MUTATING_CALLS.get(_last(path)) == index

    @cached_property
    def _environments(self) -> frozenset[str]:
        return frozenset(self.settings.environments)

    @cached_property
    def _loaders(self) -> frozenset[str]:
        return frozenset(self.settings.loaders)

    @cached_property
    def _harmless(self) -> frozenset[str]:
        return frozenset(self.settings.harmless)

    @cached_property
    def _mutating(self) -> frozenset[str]:
        return frozenset(self.settings.mutating)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _named(path: str, names: frozenset[str]) -> bool:
    return bool(names) and (path in names or _last(path) in names)


class Doubting(Knowledge):
    """For who has to be sure that nothing is changed: only what does nothing but read leaves its object as it was. A
    `backward` changes gradients, a `random` its generator."""

    def is_pure_method(self, path: str) -> bool:
        if _named(path, self._mutating):
            return False
        return _named(path, self._harmless) or _last(path) in idioms.READING_METHODS

    def is_harmless(self, path: str) -> bool:
        if _named(path, self._mutating):
            return False
        return _named(path, self._harmless) or _last(path) in idioms.READING_CALLS | {"print"}

    def changes_argument(self, path: str, index: int) -> bool:
        return super().changes_argument(path, index) or (_last(path) == "next" and index == 0)
