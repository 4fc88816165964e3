"""Kinds of garden flowers, and the tasks made of them: one normal kind against twenty graded anomaly kinds.

A kind is a distribution: what makes the species (petals and center) is fixed or nearly so, and what surrounds it
(arrangement, leaves, background, light) varies as in nature. An anomaly kind is the normal kind with 1 (very near),
2 (near), 4 (middle) or 7 (far) of the species' attributes changed. Near and very near kinds grow where the normal
does, so that only the flower itself tells them apart; middle and far ones grow anywhere, as other species do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kka.errors import UserError, unknown
from kka.garden.grammar import describe
from kka.garden.renderer import render
from kka.garden.vocabulary import ATTRIBUTES, PHRASES, Flower, choose, fill
from kka.protocols import Images
from kka.seeding import derive_seed
from kka.task import Knowledge, Task, TestSet

GRADES = {"far": 7, "middle": 4, "near": 2, "very-near": 1}
"""Grade -> attributes of the species that differ from the normal kind's."""
KINDS_PER_GRADE = 5
TRAIN_NORMALS, TEST_NORMALS, TEST_PER_KIND, KNOWN_PER_KIND, CAPTIONS_PER_IMAGE = 200, 400, 30, 20, 3

SURROUNDINGS = ("arrangement", "leaves", "background", "light")
SPECIES = tuple(a for a in ATTRIBUTES if a not in (*SURROUNDINGS, "second"))
"""What makes a species. `second` goes with `pattern`."""

NEIGHBORS: dict[str, dict[str, tuple[str, ...]]] = {
    "number": dict(
        three=("four", "five"), four=("five", "three"), five=("six", "four"), six=("seven", "five"),
        seven=("eight", "six"), eight=("nine", "seven"), nine=("ten", "eight"), ten=("twelve", "nine"),
        twelve=("ten", "many"), many=("twelve", "ten"),
    ),
    "shape": dict(
        rounded=("oval", "heart"), oval=("pointed", "rounded"), pointed=("oval", "narrow"), narrow=("pointed", "oval"),
        heart=("rounded", "fan"), spoon=("oval", "rounded"), fan=("fringed", "heart"), fringed=("fan", "rounded"),
    ),
    "color": dict(
        white=("cream", "lavender"), cream=("white", "peach"), yellow=("gold", "cream"), gold=("yellow", "orange"),
        orange=("gold", "coral"), peach=("cream", "coral"), coral=("peach", "red"), red=("maroon", "coral"),
        maroon=("red", "purple"), pink=("lavender", "peach"), magenta=("pink", "red"), lavender=("pink", "purple"),
        purple=("blue", "magenta"), blue=("purple", "lavender"),
    ),
    "texture": dict(
        smooth=("velvety", "glossy"), veined=("striped", "smooth"), spotted=("striped", "smooth"),
        ruffled=("smooth", "veined"), striped=("veined", "smooth"), velvety=("smooth", "striped"),
        glossy=("smooth", "velvety"),
    ),
    "center_color": dict(
        yellow=("orange", "green"), orange=("yellow", "red"), white=("green", "yellow"), green=("yellow", "white"),
        brown=("dark", "orange"), dark=("brown", "purple"), red=("orange", "purple"), purple=("dark", "red"),
    ),
}  # fmt: skip
"""The values that look most alike, nearest first: what a very near anomaly takes."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A distribution over flowers: each attribute in `allowed` takes one of its values, equally often."""

    name: str
    grade: str
    allowed: dict[str, tuple[str, ...]]
    changed: tuple[str, ...] = ()
    """The attributes in which an anomaly kind differs from its normal kind."""

    def draw(self, rng: np.random.Generator) -> Flower:
        """One flower of this kind."""
        return fill({a: values[int(rng.integers(len(values)))] for a, values in self.allowed.items()}, rng)


def _normal(name: str, **allowed: str) -> Kind:
    kind = {a: tuple(words.split()) for a, words in allowed.items()}
    kind.setdefault("arrangement", ("single",))
    return Kind(name=name, grade="normal", allowed=kind)


NORMALS: dict[str, Kind] = {
    k.name: k
    for k in (
        _normal(
            "windflower", number="five", shape="rounded", color="pink", texture="veined", rows="single",
            pattern="plain", center_size="small medium", center_color="yellow", center_kind="stamens",
            arrangement="single single single pair trio", leaves="round narrow", background="leafy dark soil",
            light="soft shade golden",
        ),
        _normal(
            "marigold", number="eight", shape="fan", color="orange gold", texture="ruffled", rows="double",
            pattern="plain", center_size="small medium", center_color="brown", center_kind="disc",
            leaves="serrated", background="soil leafy", light="sunny golden",
        ),
        _normal(
            "starflower", number="six", shape="pointed", color="white", texture="striped", rows="single",
            pattern="base", second="purple", center_size="medium", center_color="green", center_kind="star",
            leaves="dark narrow", background="dark leafy", light="soft shade",
        ),
        _normal(
            "daisy", number="twelve ten", shape="narrow", color="white cream", texture="smooth", rows="single",
            pattern="plain", center_size="medium large", center_color="yellow", center_kind="disc",
            leaves="none narrow", background="grass sky", light="soft sunny",
        ),
        _normal(
            "pansy", number="four", shape="heart", color="purple", texture="velvety", rows="single",
            pattern="edges", second="yellow", center_size="small", center_color="dark", center_kind="throat",
            leaves="heart round", background="soil leafy", light="soft golden",
        ),
    )
}  # fmt: skip
DEFAULT_NORMAL = "windflower"

_VERY_NEAR = (("color", 1), ("color", 0), ("pattern", 0), ("shape", 0), ("number", 0))
"""The one attribute in which each very near kind differs, and which of its `NEIGHBORS` it takes."""


_SHOWN = ("color", "color", "pattern", "color", "color")
"""The change of each far, middle or near kind that shows even in a small picture; the others come by chance."""


def vary(flower: Flower, changes: int, rng: np.random.Generator) -> Flower:
    """`flower` with `changes` attributes of its species changed, and its surroundings drawn anew."""
    kept = {a: getattr(flower, a) for a in (*SPECIES, "second")}
    for attribute in rng.permutation(SPECIES)[:changes]:
        kept |= _changed(str(attribute), (kept[str(attribute)],), kept, rng)
    return fill(kept, rng)


def _changed(attribute: str, present: Sequence[str], fixed: dict[str, str], rng: np.random.Generator) -> dict[str, str]:
    """Another value for one attribute, none of `present`, with the second color that goes with it."""
    apart = (fixed.get("second", "none"),) if attribute == "color" else ()  # two colors, not one twice
    value = choose(attribute, rng, exclude=(*present, *apart))
    change = {attribute: value}
    if attribute == "pattern" and value == "plain":
        change["second"] = "none"
    elif attribute == "pattern" and fixed.get("second", "none") == "none":
        alike = NEIGHBORS["color"][fixed["color"]]
        change["second"] = choose("color", rng, exclude=(fixed["color"], *alike))
    return change


def anomaly_kinds(normal: Kind) -> tuple[Kind, ...]:
    """The twenty anomaly kinds of a normal kind, from far to very near. They depend on the normal kind alone."""
    rng = np.random.default_rng(derive_seed(0, "garden-kinds", normal.name))
    kinds: list[Kind] = []
    for grade, changes in GRADES.items():
        for i in range(KINDS_PER_GRADE):
            kind = _anomaly(normal, f"{grade}-{i + 1}", grade, _changes(normal, grade, changes, i, rng))
            while any(kind.allowed == other.allowed for other in kinds):
                kind = _anomaly(normal, f"{grade}-{i + 1}", grade, _changes(normal, grade, changes, i, rng))
            kinds.append(kind)
    return tuple(kinds)


def _changes(normal: Kind, grade: str, count: int, i: int, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """Which attributes of the normal kind change for anomaly number `i` of a grade, and what each becomes."""
    usual = {a: values[0] for a, values in normal.allowed.items()}
    if grade == "very-near":
        attribute, rank = _VERY_NEAR[i]
        present = normal.allowed[attribute]
        all_near = [v for value in present for v in NEIGHBORS.get(attribute, {}).get(value, ())]
        near = [v for v in dict.fromkeys(all_near) if v not in present]
        if rank < len(near):
            return {attribute: {attribute: near[rank]}}
        return {attribute: _changed(attribute, present, usual, rng)}
    shown = [_SHOWN[i % len(_SHOWN)]]  # one change at least can be seen from far
    chosen = shown + [str(a) for a in rng.permutation(SPECIES) if a not in shown][: count - 1]
    changes: dict[str, dict[str, str]] = {}
    for attribute in sorted(chosen, key=SPECIES.index):
        alike = NEIGHBORS["color"][usual["color"]] if attribute == "color" else ()  # left to the very near kinds
        changes[attribute] = _changed(attribute, (*normal.allowed[attribute], *alike), usual, rng)
        usual |= changes[attribute]
    return changes


def _anomaly(normal: Kind, name: str, grade: str, changes: dict[str, dict[str, str]]) -> Kind:
    home = {} if grade in ("near", "very-near") else {a: tuple(PHRASES[a]) for a in SURROUNDINGS}
    allowed = normal.allowed | home
    for change in changes.values():
        allowed |= {a: (value,) for a, value in change.items()}
    return Kind(name=name, grade=grade, allowed=allowed, changed=tuple(changes))


def _grow(kind: Kind, seeds: Sequence[int]) -> list[Flower]:
    return [kind.draw(np.random.default_rng([seed, 1])) for seed in seeds]


def _captions(flowers: Sequence[Flower], seeds: Sequence[int], each: int) -> list[tuple[str, ...]]:
    told = []
    for flower, seed in zip(flowers, seeds, strict=True):
        rng = np.random.default_rng([seed, 2])
        told.append(tuple(describe(flower, rng) for _ in range(each)))
    return told


def image_seeds(seed: int, normal: str, split: str, count: int) -> list[int]:
    """Seeds of a split's images. No two splits share one, nor does any with the 31-bit seeds of an image model."""
    base = (derive_seed(seed, "garden", normal) + 1) << 32
    return [base + (("train", "test", "knowledge").index(split) << 24) + i for i in range(count)]


def withheld_kinds(kinds: Sequence[Kind], unseen: float, seed: int) -> frozenset[str]:
    """The names of the share `unseen` of the kinds that no model may know, spread evenly over the grades."""
    rng = np.random.default_rng(derive_seed(seed, "garden-unseen"))
    ranked: list[tuple[int, float, str]] = []
    for grade in GRADES:
        names = [k.name for k in kinds if k.grade == grade]
        ranked += [(place, rng.random(), names[i]) for place, i in enumerate(rng.permutation(len(names)))]
    return frozenset(name for _, _, name in sorted(ranked)[: round(unseen * len(kinds))])


def build_task(normal: str | None = None, unseen: float = 0.0, seed: int = 0) -> Task:
    """The task of one normal kind (default: windflower): 200 training normals, 1,000 test images, knowledge.

    Args:
        normal: a name in `NORMALS`.
        unseen: share of the anomaly kinds withheld from the knowledge, in [0, 1).
        seed: of all images and captions, and of the choice of the withheld kinds.
    """
    name = normal or DEFAULT_NORMAL
    if name not in NORMALS:
        raise unknown("normal kind of the garden", name, NORMALS)
    if not 0 <= unseen < 1:
        raise UserError(f"unseen: expected a share of the anomaly kinds, at least 0 and below 1; got {unseen}")
    kind, anomalies = NORMALS[name], anomaly_kinds(NORMALS[name])
    withheld = withheld_kinds(anomalies, unseen, seed)
    seeds = image_seeds(seed, name, "train", TRAIN_NORMALS)
    flowers = _grow(kind, seeds)
    return Task(
        name=f"garden-{name}",
        normals=render(flowers, seeds),
        captions=tuple(c[0] for c in _captions(flowers, seeds, 1)),
        domain="flowers",
        test=_test_set(kind, anomalies, withheld, image_seeds(seed, name, "test", 1000)),
        knowledge=_knowledge([k for k in anomalies if k.name not in withheld], seed, name),
        source="garden",
        details={
            "normal": name,
            "train_normals": TRAIN_NORMALS,
            "kinds": {k.name: {"grade": k.grade, "changed": list(k.changed)} for k in anomalies},
            "withheld": sorted(withheld),
        },
    )


def _several(kinds: Sequence[Kind], each: int, seeds: Sequence[int]) -> tuple[list[Flower], tuple[str, ...]]:
    flowers: list[Flower] = []
    for i, kind in enumerate(kinds):
        flowers += _grow(kind, seeds[i * each : (i + 1) * each])
    return flowers, tuple(k.name for k in kinds for _ in range(each))


def _test_set(normal: Kind, anomalies: Sequence[Kind], withheld: frozenset[str], seeds: Sequence[int]) -> TestSet:
    flowers = _grow(normal, seeds[:TEST_NORMALS])
    others, names = _several(anomalies, TEST_PER_KIND, seeds[TEST_NORMALS:])
    kinds = (normal.name,) * TEST_NORMALS + names
    return TestSet(
        images=render(flowers + others, seeds),
        is_anomaly=np.array([k != normal.name for k in kinds]),
        kinds=kinds,
        seen=np.array([k not in withheld for k in kinds]) if withheld else None,
    )


def _knowledge(kinds: Sequence[Kind], seed: int, normal: str) -> Knowledge:
    seeds = image_seeds(seed, normal, "knowledge", KNOWN_PER_KIND * len(kinds))
    flowers, names = _several(kinds, KNOWN_PER_KIND, seeds)
    images: Images = render(flowers, seeds)
    return Knowledge(images=images, captions=tuple(_captions(flowers, seeds, CAPTIONS_PER_IMAGE)), kinds=names)
