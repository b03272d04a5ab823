"""Where the states of a pool's streams stand: rows of states of several, copied only when other streams meet.

Used by the pool's thread alone, but for `place = None`: a stream that begins anew or has left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..engines.protocol import Engine, State

__all__ = ["Block", "Place", "Placed", "gather", "settle"]


class Placed(Protocol):
    """Who has a state."""

    place: Place | None  # None: at its beginning, all zeros


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Block:
    """A state of several, and who stood in which row when it was made."""

    state: State
    members: tuple[Placed, ...]

    def left(self) -> list[Place]:
        """The rows of those who are still in it."""
        places = [Place(self, row) for row in range(len(self.members))]
        return [place for place, member in zip(places, self.members, strict=True) if member.place == place]


class Place(NamedTuple):
    """A row of a state."""

    block: Block
    row: int


def gather(engine: Engine, members: Sequence[Placed]) -> State:
    """Their states in one: as it is where exactly these came out of one call, copied otherwise."""
    if beginning := [member for member in members if member.place is None]:
        _put(beginning, engine.zero_state(len(beginning)))
    places = [member.place for member in members if member.place is not None]
    block = places[0].block
    if places == [Place(block, row) for row in range(len(block.members))]:
        return block.state
    return _select(engine, places)


def settle(engine: Engine, members: Sequence[Placed], state: State, vacated: Iterable[Block] = ()) -> None:
    """Row i of the state is now that of member i. A large one is not kept in memory for the few that are left in it.

    Nor are those that others have left (`vacated`). Unless there is no memory to copy the few: then it is kept, and
    they lose nothing.
    """
    before = {member.place.block for member in members if member.place is not None}
    before.update(vacated)
    _put(members, state)
    for block in before:
        left = block.left()
        if left and 2 * len(left) <= len(block.members):
            with contextlib.suppress(Exception):  # whatever a library raises: the thread of all streams calls this
                _put([block.members[place.row] for place in left], _select(engine, left))


def _put(members: Sequence[Placed], state: State) -> None:
    block = Block(state, tuple(members))
    for row, member in enumerate(members):
        member.place = Place(block, row)


def _select(engine: Engine, places: Sequence[Place]) -> State:
    return engine.select([(place.block.state, place.row) for place in places])
