"""Which name of the older version stands for a name of the newer one."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import cached_property

from flor_transform.backport.mapping import Mapping as Matching
from flor_transform.backport.mapping import dice
from flor_transform.backport.names import Scopes, arguments, header_binds
from flor_transform.backport.shapes import Rename, akin, alike
from flor_transform.backport.tree import FUNCTIONS, Block, Node, Version, scope_of

#: How many statements have to say that a name was changed for another.
SURE = 4
SURE_ALIKE = 2


class Renamer:
    """What matched statements say about renamed variables."""

    def __init__(self, new: Version, old: Version, mapping: Matching, new_scopes: Scopes, old_scopes: Scopes) -> None:
        self.new, self.old, self.map = new, old, mapping
        self.new_scopes, self.old_scopes = new_scopes, old_scopes
        #: names whose renaming only their uses show
        self.by_use: set[str] = set()

    def guess(self, names: set[str], block: object) -> dict[str, str]:
        """The names that votes alone say, before the place is known."""
        assert isinstance(block, Block)
        out = {}
        for name in names:
            other = self.voted(name, block)
            if other is not None:
                out[name] = other
        return out

    @cached_property
    def _imported(self) -> frozenset[str]:
        """Names that new imports: another module in the same place is no other name for it."""
        stmts = (n.stmt for n in self.new if n.group == "import")
        return frozenset(name for stmt in stmts for name in header_binds(stmt))

    def voted(self, name: str, block: Block) -> str | None:
        said = self.map.renamed.get(name.encode())
        if name in self._imported and (said is None or not akin(name.encode(), said.other)):
            return None
        if said is not None and self._sure(name, said):
            return said.other.decode()
        scope = scope_of(block)
        votes = self.map.votes(name, scope if name in self.new_scopes.anywhere(scope) else None)
        if sum(votes.values()) < 2:
            votes = self.map.votes(name)
        if sum(votes.values()) < 2 and not votes[name]:
            return self._by_definition(name, block)
        if votes[name] * 3 >= sum(votes.values()):
            return None
        (best, count), *rest = votes.most_common(2)
        if best == name or count < 2 or (rest and rest[0][1] * 2 > count):
            return None
        return best

    def _sure(self, name: str, said: Rename) -> bool:
        """Whether enough statements say so, and hardly one says else; fewer will do where the two names are alike."""
        votes = self.map.votes(name)
        others = sum(votes.values()) - votes[said.other.decode()]
        if others * 3 > votes[said.other.decode()] and others * 3 > said.count:
            return False
        return said.count >= (SURE_ALIKE if alike(name.encode(), said.other) else SURE)

    def same_thing(self, name: str, other: str, block: Block, target: Block) -> bool:
        """Whether what binds ``name`` in new and what binds ``other`` in old is the same thing by another name.

        Uses alone don't show it: another object may have taken the old one's place in all of them.
        """
        here = self._definitions(name, block, self.new, self.new_scopes)
        there = self._definitions(other, target, self.old, self.old_scopes)
        if self.map.votes(other)[other]:
            return False
        if any(self.map.to_old.get(a) in there for a in here):
            return True
        for a in here:
            for b in there:
                if a.group != b.group or a in self.map.to_old or b in self.map.to_new:
                    continue
                words = dice(a.words - {name.encode()}, b.words - {other.encode()})
                if words >= 0.5:
                    return True
        self.by_use.add(name)
        said = self.map.renamed.get(name.encode())
        if said is not None and said.other == other.encode() and self._sure(name, said):
            return True
        votes = self.map.votes(name)[other]
        if votes >= 6 and SequenceMatcher(None, name, other).ratio() >= 0.6:
            return True
        return votes >= 10 and name not in self.old.variables and other not in self.new.variables

    def _by_definition(self, name: str, block: Block) -> str | None:
        """The one name of old, unknown to new, whose definition reads like that of ``name``."""
        if name in self.old.variables:
            return None
        found: dict[str, float] = {}
        for a in self._definitions(name, block, self.new, self.new_scopes):
            if a.group != "assign" or a in self.map.to_old or len(a.words) < 4:
                continue
            for b in self.old:
                if b.group != "assign" or b in self.map.to_new:
                    continue
                bound = header_binds(b.stmt)
                if len(bound) == 1 and not bound & self.new.variables:
                    other = next(iter(bound))
                    like = dice(a.words - {name.encode()}, b.words - {other.encode()})
                    if like >= 0.6:
                        found[other] = max(like, found.get(other, 0.0))
        return next(iter(found)) if len(found) == 1 else None

    def _definitions(self, name: str, block: Block, version: Version, scopes: Scopes) -> set[Node]:
        scope = scope_of(block)
        holder = scope if name in scopes.anywhere(scope) else version.root
        out = {n for n in version if (n.scope() is holder) and name in header_binds(n.stmt)}
        if isinstance(holder.stmt, FUNCTIONS) and name in arguments(holder.stmt.args):
            out.add(holder)
        return out
