"""Whose question is answered next: a line for each session, and the sessions take turns, so that nobody waits behind
all that somebody else asked for.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Turns(Generic[Item]):
    """Items that wait, in one line per session. An item that several sessions wait for is served once, at the first
    turn of any of them. Not safe for threads: its owner holds a lock.
    """

    def __init__(self, most: int) -> None:
        """most: items that may wait at a time."""
        self.most = most
        self._lines: OrderedDict[str, dict[Item, None]] = OrderedDict()  # whoever was served last stands last
        self._places: dict[Item, int] | None = None  # in the order of service, until something changes

    def __len__(self) -> int:
        return len(self._order())

    def join(self, session: str, item: Item) -> bool:
        """Put an item at the end of a session's line; False, and nothing changed, when too many wait already."""
        if item not in self._order() and len(self) >= self.most:
            return False
        self._lines.setdefault(session, {})[item] = None
        self._places = None
        return True

    def leave(self, session: str, item: Item) -> None:
        """Take an item out of a session's line, if it is there."""
        line = self._lines.get(session, {})
        if item in line:
            del line[item]
            if not line:
                del self._lines[session]
            self._places = None

    def next(self) -> Item | None:
        """Take the item whose turn it is out of every line; None when nothing waits."""
        if not self._lines:
            return None
        session, line = next(iter(self._lines.items()))
        item = next(iter(line))
        self._lines.move_to_end(session)
        for other in list(self._lines):
            self.leave(other, item)
        return item

    def before(self, item: Item) -> int | None:
        """How many items are served before this one, as things stand; None if it does not wait."""
        return self._order().get(item)

    def _order(self) -> dict[Item, int]:
        if self._places is None:
            self._places = {item: place for place, item in enumerate(self._in_turn())}
        return self._places

    def _in_turn(self) -> Iterator[Item]:
        served: set[Item] = set()
        lines = deque(deque(line) for line in self._lines.values())
        while lines:
            line = lines.popleft()
            while line and line[0] in served:
                line.popleft()
            if line:
                served.add(line[0])
                yield line.popleft()
                lines.append(line)
