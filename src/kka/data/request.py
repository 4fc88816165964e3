"""What the user asked for, and the pictures of one side of the data, not yet decoded."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kka.common.images import Source
from kka.protocols import Images
from kka.settings.fit import Fit
from kka.task import Knowledge


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for: the arguments of `kka.data.open_task`."""

    source: str
    normal: tuple[str, ...] = ()
    unseen: float = 0.0
    describe: str | None = None
    undescribed: str | None = None
    domain: str | None = None
    size: int | None = None
    fit: Fit | None = None
    seed: int = 0
    captions: Callable[[Sequence[Path]], Sequence[str]] | None = None
    """Writes those of photos that have none."""
    most: int | None = None
    """Normals, and test pictures, of which no more are read, spread over all of them: to look at, not to work with."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The pictures of one side, training or test, not yet decoded."""

    where: str
    """As errors name it."""
    paths: tuple[str, ...]
    kinds: tuple[str, ...]
    """The class of each picture."""
    captions: tuple[tuple[str, ...], ...]
    """The captions of each picture, at least one. Of the test pictures: none, they are never read."""
    read: Callable[[Sequence[int]], Iterable[Source]]
    """Names and files (or content) of the pictures at these ascending positions, read as they are asked for."""
    files: tuple[Path, ...] = ()
    """Of each picture, where each is a file of its own."""
    masks: Mapping[str, tuple[Path, tuple[Path, ...]]] = field(default_factory=dict)
    """Path -> the file of the picture and those of its masks, where it has any."""

    def only(self, places: Sequence[int]) -> "Split":
        """The pictures at these ascending positions."""
        chosen, read = list(places), self.read
        return Split(
            where=self.where,
            paths=tuple(self.paths[i] for i in chosen),
            kinds=tuple(self.kinds[i] for i in chosen),
            captions=tuple(self.captions[i] for i in chosen),
            read=lambda positions: read([chosen[i] for i in positions]),
            files=tuple(self.files[i] for i in chosen) if self.files else (),
            masks=self.masks,
        )

    def paths_digest(self, places: Sequence[int]) -> str:
        """Of the names at these positions: what is set aside is called by them."""
        names = "\0".join([self.where, *(self.paths[i] for i in places)])
        return hashlib.blake2b(names.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def knowledge(self, images: Images, places: Sequence[int]) -> Knowledge:
        """Decoded pictures, which stand at these places, with their captions and classes."""
        return Knowledge(
            images=images,
            captions=tuple(self.captions[i] for i in places),
            kinds=tuple(self.kinds[i] for i in places),
        )
