"""How many shards a region has, and which shard came from which: the catalog's document of it.

An item's shard is its partition hash modulo the number of shards. That number grows only to a
multiple of itself, by a *split*: shard `s` of P becomes the parent of `s`, `s + P`, `s + 2P` and so
on up to the new number. The parent's partition of the log goes on as that of its first child; the
others begin with empty partitions. So an item's changes never come from more than one parent, and
the offset of the parent's split record is where one child's log ends and another one's begins.
"""

from typing import Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict

from streamtable.core.errors import ValidationError

__all__ = [
    "MOST_SHARDS",
    "Birth",
    "LayoutDocument",
    "Part",
    "Phase",
    "Reshard",
    "Split",
    "check_target",
]

_NUMBER_BITS: Final = 16

MOST_SHARDS: Final = 1000
"""As many shards may a region have."""

Phase: TypeAlias = Literal["copying", "swapping"]


class Split(BaseModel):
    """One growth of the number of shards.

    Attributes:
        before: the number before.
        after: the number after.
        ends: by parent the offset of its split record, the last one of all its items' log.
        index_ends: by parent the first offset of the indexes' log that is its first child's alone.
        at: when, seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: int
    after: int
    ends: tuple[int, ...]
    index_ends: tuple[int, ...]
    at: float


class Reshard(BaseModel):
    """A growth that is under way.

    Attributes:
        id: of this attempt; one that was given up and begun again has another.
        target: the number of shards that there are to be.
        phase: `copying` while the new shards' rows are copied, `swapping` while no request is
            carried out until the number has changed, or the attempt is given up.
        since: when it was asked for, seconds since 1970.
        attempts: how often swapping was given up.
        error: why that was, the last time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    target: int
    phase: Phase = "copying"
    since: float
    attempts: int = 0
    error: str | None = None


class Birth(NamedTuple):
    """How a shard that was not there from the beginning came about.

    Attributes:
        parent: the shard whose items it took over.
        before: how many shards there were.
        end: offset of the parent's split record; None while that is to come.
        index_end: the first offset of the parent's indexes' log that is not its own; likewise.
    """

    parent: int
    before: int
    end: int | None
    index_end: int | None


class Part(NamedTuple):
    """What a shard's log has between two splits: a shard of a stream.

    Attributes:
        number: the shard's number, which is the partition of the log.
        generation: how many splits came before.
        first: its first offset.
        end: the offset after its last one; None for a part that is not closed.
        parent: the code of the part whose items it took over; None before the first split.
        began: when it was split off, seconds since 1970; likewise.
        ended: when it was split itself; None for a part that is not closed.
    """

    number: int
    generation: int
    first: int
    end: int | None
    parent: int | None
    began: float | None
    ended: float | None

    @property
    def code(self) -> int:
        """A number that no other part has; before the first split it is the shard's."""
        return self.generation << _NUMBER_BITS | self.number


class LayoutDocument(BaseModel):
    """The shards of a region.

    Attributes:
        count: how many there are.
        splits: how that came, the first split first.
        reshard: the split that is under way, None where none is.
        failed: why the last one was given up for good, None where it was not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    splits: tuple[Split, ...] = ()
    reshard: Reshard | None = None
    failed: str | None = None

    def birth(self, shard: int) -> Birth | None:
        """Say how a shard came about, None for one that was there from the beginning.

        Shards that are to be are born, too, as far as that is known.
        """
        for split in self.splits:
            if split.before <= shard < split.after:
                parent = shard % split.before
                return Birth(parent, split.before, split.ends[parent], split.index_ends[parent])
        if shard >= self.count and self.reshard is not None:
            return Birth(shard % self.count, self.count, None, None)
        return None

    def births(self, shard: int) -> list[Birth]:
        """Say how a shard came about, and its parent, and so on: the oldest birth first."""
        found: list[Birth] = []
        birth = self.birth(shard)
        while birth is not None:
            found.insert(0, birth)
            birth = self.birth(birth.parent)
        return found

    def chain(self, shard: int, since_s: float) -> list[int]:
        """Return the shards that have had a shard's items since a time, the oldest first."""
        found = [shard]
        for split in reversed(self.splits):
            if found[0] >= split.before and split.at >= since_s:
                found.insert(0, found[0] % split.before)
        return found

    def began(self, shard: int) -> tuple[int, int]:
        """Return from where on a shard's logs have only what is the shard's today.

        The offset of its last split record, -1 where it was never split; and the offset in the
        indexes' log from which on that is so.
        """
        for split in reversed(self.splits):
            if shard < split.before:
                return split.ends[shard], split.index_ends[shard]
        return -1, 0

    def children(self, shard: int) -> range:
        """Return the shards that were split off a shard when it was split last."""
        for split in reversed(self.splits):
            if shard < split.before:
                return range(shard + split.before, split.after, split.before)
        return range(0)

    def parts(self) -> list[Part]:
        """Return what the splits have cut the log into, the oldest parts first."""
        found = []
        first = self.splits[0].before if self.splits else self.count
        open_parts = {n: Part(n, 0, 0, None, None, None, None) for n in range(first)}
        for generation, split in enumerate(self.splits, 1):
            parents, open_parts = open_parts, {}
            for number in range(split.after):
                parent = parents[number % split.before]
                stays = number < split.before
                start = split.ends[number] + 1 if stays else 0
                open_parts[number] = Part(
                    number, generation, start, None, parent.code, split.at, None
                )
            found += [
                part._replace(end=split.ends[number] + 1, ended=split.at)
                for number, part in parents.items()
            ]
        return [*found, *open_parts.values()]

    def numbered_from(self, shard: int) -> int:
        """Return what is added to a shard's offsets in sequence numbers.

        An item's sequence numbers grow, also where it goes from a parent to a child, whose log
        begins at offset 0.
        """
        birth = self.birth(shard)
        if birth is None or birth.end is None:
            return 0
        return self.numbered_from(birth.parent) + birth.end + 1


def check_target(count: int, target: int) -> None:
    """Check that a region of so many shards can be made one of `target`.

    Raises:
        ValidationError: it can't; the message has the numbers that it can.
    """
    if target > count and target % count == 0 and target <= MOST_SHARDS:
        return
    possible = [str(number) for number in range(2 * count, MOST_SHARDS + 1, count)]
    shown = ", ".join(possible[:3]) + (" and so on" if len(possible) > 3 else "")
    raise ValidationError(
        f"The region has {count} shards. Their number can be made a multiple of that, at most "
        f"{MOST_SHARDS}: {shown or 'there is none'}. It can't be made {target}."
    )
