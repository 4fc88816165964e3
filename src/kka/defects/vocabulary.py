"""The families of defects, their attributes, and the words for each: all that `paint` reads, in one place.

Values are plain strings; the first phrase of a value is its usual one. Articles count for nothing when phrases are
read, and British and American spelling are read alike.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of defect in words."""

    nouns: tuple[str, ...] = ()
    """What one of them is called; the plural is made by `plural`."""
    masses: tuple[str, ...] = ()
    """What some of it is called: "rust"."""
    states: tuple[str, ...] = ()
    """What an object that has it is: "cracked"."""
    attributes: tuple[str, ...]
    """The attributes that a caption of it may sensibly name."""


_STROKE = ("number", "strength", "size", "width", "color", "shape", "direction", "edge", "place", "spread")
_SPOT = ("number", "strength", "size", "color", "shape", "edge", "place", "spread")
_RELIEF = ("number", "strength", "size", "shape", "edge", "place", "spread")
_AREA = ("number", "strength", "size", "color", "shape", "direction", "edge", "place")
_PART = ("number", "strength", "size", "place")
_FIELD = ("strength", "size", "color", "direction", "edge", "place")

FAMILIES: dict[str, Family] = {
    "crack": Family(
        nouns=("crack", "fracture", "fissure", "split"), states=("cracked", "fractured"), attributes=_STROKE
    ),
    "scratch": Family(
        nouns=("scratch", "scrape", "score mark", "abrasion", "gouge", "line"),
        states=("scratched", "scraped", "scuffed"),
        attributes=_STROKE,
    ),
    "hole": Family(
        nouns=("hole", "puncture", "opening", "perforation"), states=("punctured", "perforated"), attributes=_SPOT
    ),
    "pit": Family(
        nouns=("pit", "blowhole", "pinhole", "pore", "cavity"),
        masses=("pitting", "porosity"),
        states=("pitted", "porous"),
        attributes=_SPOT,
    ),
    "dent": Family(
        nouns=("dent", "dimple", "impression", "depression", "ding"), states=("dented",), attributes=_RELIEF
    ),
    "bubble": Family(
        nouns=("bubble", "blister", "air pocket", "bump"), states=("blistered", "bubbled"), attributes=_RELIEF
    ),
    "stain": Family(
        nouns=("stain", "spot", "blot", "blotch", "mark", "smear", "water mark"),
        masses=("dirt", "grime", "soiling"),
        states=("stained", "dirty", "soiled", "blotched"),
        attributes=_AREA,
    ),
    "spill": Family(
        nouns=("spill", "splash", "drip", "puddle", "drop"), masses=("spilt liquid",), states=("splashed", "spilt on"),
        attributes=_AREA,
    ),
    "rust": Family(
        nouns=("rust spot", "rust patch", "patch of rust", "rust stain"),
        masses=("rust", "corrosion", "oxidation"),
        states=("rusty", "rusted", "corroded", "oxidized"),
        attributes=("number", "strength", "size", "shape", "edge", "place", "spread"),
    ),
    "discoloration": Family(
        nouns=("discolored area", "tinted patch", "patch of another color", "burn mark"),
        masses=("discoloration", "staining"),
        states=("discolored", "tarnished", "yellowed", "scorched"),
        attributes=_AREA,
    ),
    "fading": Family(
        nouns=("faded area", "bleached patch", "washed-out area", "worn area"),
        masses=("fading", "bleaching", "wear"),
        states=("faded", "bleached", "washed out", "worn"),
        attributes=("number", "strength", "size", "shape", "edge", "place"),
    ),
    "chip": Family(
        nouns=("chip", "missing piece", "nick", "broken corner", "broken edge", "break", "bite"),
        states=("chipped", "broken", "nicked"),
        attributes=("number", "strength", "size", "edge", "place"),
    ),
    "burr": Family(
        nouns=("burr", "flash", "splinter", "spur", "frayed edge"), states=("burred", "splintered", "frayed"),
        attributes=("number", "strength", "size", "edge", "place"),
    ),
    "deformation": Family(
        nouns=("deformation", "warp", "bulge", "bend", "distortion", "kink"),
        states=("deformed", "bent", "warped", "distorted", "crushed", "twisted"),
        attributes=("strength", "size", "direction", "place"),
    ),
    "speck": Family(
        nouns=("speck", "particle", "crumb", "chip of foreign matter", "flake"),
        masses=("dust", "debris", "foreign matter", "contamination", "grit"),
        states=("dusty", "contaminated"),
        attributes=_SPOT,
    ),
    "fiber": Family(nouns=("fiber", "thread", "piece of lint", "strand"), masses=("lint", "fluff"), attributes=_STROKE),
    "hair": Family(nouns=("hair", "eyelash", "bristle"), attributes=_STROKE),
    "missing": Family(
        nouns=("missing part", "missing component", "missing section", "lost part"),
        states=("incomplete", "missing"),
        attributes=_PART,
    ),
    "doubled": Family(
        nouns=("doubled part", "duplicate part", "extra part", "surplus part"), states=("doubled", "duplicated"),
        attributes=_PART,
    ),
    "shifted": Family(
        nouns=("shifted part", "displaced part", "misplaced part", "misaligned part", "offset part"),
        states=("misaligned", "shifted", "displaced", "misplaced"),
        attributes=(*_PART, "direction"),
    ),
    "turned": Family(
        nouns=("turned part", "rotated part", "flipped part", "upside-down part"),
        states=("turned", "rotated", "flipped"),
        attributes=_PART,
    ),
    "blur": Family(
        nouns=("blurred print", "smudged print", "smeared print", "blurred area", "smudge"),
        states=("blurred", "smudged", "smeared", "out of focus"),
        attributes=("strength", "size", "direction", "edge", "place"),
    ),
    "misprint": Family(
        nouns=("misprint", "wrong print", "printing error", "ghost print", "faulty print"), states=("misprinted",),
        attributes=_PART,
    ),
    "texture": Family(
        nouns=("changed texture", "different texture", "rough patch", "coarse patch", "patch of another texture"),
        states=("roughened", "coarsened"),
        attributes=("number", "strength", "size", "shape", "direction", "edge", "place"),
    ),
    "light": Family(
        nouns=("shadow", "shaded area", "reflection", "bright area"),
        masses=("uneven light", "uneven lighting", "glare"),
        states=("unevenly lit", "overexposed", "underexposed"),
        attributes=("strength", "size", "direction", "edge", "place"),
    ),
    "coating": Family(
        nouns=("coating flaw", "coating defect", "uncoated area", "streak"),
        masses=("uneven coating", "patchy coating", "uneven finish", "uneven paint"),
        states=("unevenly coated", "patchy", "streaky", "uneven"),
        attributes=_FIELD,
    ),
}  # fmt: skip
"""family -> its words. The order counts in pictures: what a caption leaves open is drawn by the place in it."""

PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "number": {
        "one": ("one", "single"),
        "two": ("two", "a pair of"),
        "three": ("three",),
        "four": ("four",),
        "five": ("five",),
        "several": ("several", "a few", "some", "multiple"),
        "many": ("many", "numerous", "countless", "lots of"),
    },
    "strength": {
        "faint": ("faint", "barely visible", "subtle", "hardly visible"),
        "slight": ("slight", "weak", "shallow", "mild"),
        "clear": ("clear", "visible", "distinct", "noticeable", "moderate"),
        "obvious": ("obvious", "strong", "deep", "severe", "heavy", "pronounced", "prominent"),
    },
    "size": {
        "tiny": ("tiny", "minute", "microscopic"),
        "small": ("small", "little", "short", "minor"),
        "medium": ("medium-sized", "average-sized"),
        "large": ("large", "big", "long", "extensive"),
        "huge": ("huge", "very large", "very long", "massive", "enormous"),
    },
    "width": {
        "hairline": ("hairline", "hair-thin"),
        "thin": ("thin", "fine", "narrow"),
        "wide": ("wide", "broad", "thick"),
    },
    "color": {
        "dark": ("dark", "darker"),
        "light": ("light", "bright", "pale", "lighter"),
        "black": ("black", "blackish", "oily", "ink"),
        "grey": ("grey", "greyish"),
        "white": ("white", "whitish", "chalky"),
        "brown": ("brown", "brownish", "coffee", "muddy"),
        "red": ("red", "reddish"),
        "orange": ("orange",),
        "yellow": ("yellow", "yellowish"),
        "green": ("green", "greenish"),
        "blue": ("blue", "bluish"),
        "purple": ("purple", "violet"),
        "pink": ("pink",),
        "clear": ("colorless", "transparent", "wet"),
    },
    "shape": {
        "round": ("round", "circular"),
        "oval": ("oval", "elongated", "oblong"),
        "irregular": ("irregular", "shapeless"),
        "straight": ("straight",),
        "curved": ("curved", "arched"),
        "wavy": ("wavy", "winding"),
        "branched": ("branched", "branching", "forked"),
    },
    "direction": {
        "horizontal": ("horizontal", "crosswise", "running sideways", "from left to right"),
        "vertical": ("vertical", "lengthwise", "running up and down", "from top to bottom"),
        "diagonal": ("diagonal", "slanting", "oblique", "running at an angle"),
    },
    "edge": {
        "sharp": ("sharp", "crisp", "sharp-edged", "well-defined"),
        "soft": ("soft", "diffuse", "hazy", "soft-edged"),
        "ragged": ("ragged", "jagged", "rough-edged"),
    },
    "place": {
        "center": ("in the middle", "in the center", "near the center"),
        "top": ("at the top", "near the top", "in the upper part", "on the upper half"),
        "bottom": ("at the bottom", "near the bottom", "in the lower part", "on the lower half"),
        "left": ("on the left", "on the left side", "to the left"),
        "right": ("on the right", "on the right side", "to the right"),
        "top left": ("at the top left", "in the upper left", "in the top left corner", "in the upper left corner"),
        "top right": ("at the top right", "in the upper right", "in the top right corner", "in the upper right corner"),
        "bottom left": (
            "at the bottom left",
            "in the lower left",
            "in the bottom left corner",
            "in the lower left corner",
        ),
        "bottom right": (
            "at the bottom right",
            "in the lower right",
            "in the bottom right corner",
            "in the lower right corner",
        ),
        "edge": ("at the edge", "near the edge", "along the edge", "at the border", "along the rim", "near the rim"),
        "left edge": ("at the left edge", "along the left edge", "near the left edge", "at the left border"),
        "right edge": ("at the right edge", "along the right edge", "near the right edge", "at the right border"),
        "top edge": ("at the top edge", "along the top edge", "near the top edge", "at the upper edge"),
        "bottom edge": ("at the bottom edge", "along the bottom edge", "near the bottom edge", "at the lower edge"),
        "corner": ("in a corner", "at a corner", "near a corner"),
        "everywhere": ("all over", "everywhere", "across the whole surface", "all across the surface"),
    },
    "spread": {
        "scattered": ("scattered", "spread out", "dispersed"),
        "clustered": ("clustered", "close together", "in a cluster", "in a group"),
        "row": ("in a row", "in a line", "lined up"),
    },
}
"""attribute -> value -> phrases."""

STROKES = frozenset({"crack", "scratch", "fiber", "hair"})
"""Families that are lines: straight, curved, wavy or branched; others are round, oval or irregular."""
LINE_SHAPES = ("straight", "curved", "wavy", "branched")

ADVERBS: dict[str, tuple[str, ...]] = {
    "faint": ("faintly", "barely", "hardly"),
    "slight": ("slightly", "lightly", "mildly"),
    "clear": ("clearly", "visibly", "noticeably"),
    "obvious": ("heavily", "badly", "severely", "strongly", "deeply"),
}
"""strength -> how a state has it: "badly cracked"."""

_TO_THE_EDGE = tuple(
    f"{where} {which}{border}"
    for where in ("at", "near", "along", "on", "in", "around", "by", "from", "close to", "next to", "towards", "toward")
    for which in ("", "its ", "one ", "outer ")
    for border in ("edge", "edges", "border", "borders", "rim", "margin", "outline")
)
"""Of a place alone: "ragged edges" and "a dark border" are the defect's own."""

READ_TOO: dict[str, dict[str, tuple[str, ...]]] = {
    "direction": {
        "horizontal": ("horizontally", "sideways", "across"),
        "vertical": ("vertically", "upright", "up and down"),
        "diagonal": ("diagonally", "slanted", "inclined", "tilted"),
    },
    "place": {
        "center": ("center", "middle", "centrally", "central", "centered"),
        "top": ("top", "upper part", "upper half", "upper side", "top side", "above"),
        "bottom": ("bottom", "lower part", "lower half", "lower side", "bottom side", "below"),
        "left": ("left", "left side", "left half"),
        "right": ("right", "right side", "right half"),
        "top left": ("top left", "upper left", "top-left", "upper-left", "top left corner", "upper left corner"),
        "top right": ("top right", "upper right", "top-right", "upper-right", "top right corner", "upper right corner"),
        "bottom left": ("bottom left", "lower left", "bottom-left", "lower-left", "bottom left corner"),
        "bottom right": ("bottom right", "lower right", "bottom-right", "lower-right", "bottom right corner"),
        "edge": _TO_THE_EDGE,
        "left edge": ("left edge", "left border", "left rim"),
        "right edge": ("right edge", "right border", "right rim"),
        "top edge": ("top edge", "upper edge", "top border", "top rim"),
        "bottom edge": ("bottom edge", "lower edge", "bottom border", "bottom rim"),
        "corner": ("corner", "corners"),
        "everywhere": ("whole surface", "entire surface", "whole", "entire"),
    },
    "size": {"large": ("sizeable", "larger"), "small": ("smaller",), "medium": ("medium", "mid-sized")},
    "strength": {"faint": ("nearly invisible", "almost invisible"), "obvious": ("striking", "intense", "glaring")},
    "number": {"several": ("six", "seven"), "many": ("eight", "nine", "ten", "dozens of", "dozen")},
    "edge": {"ragged": ("rough", "uneven-edged"), "soft": ("smooth", "fuzzy", "blurry"), "sharp": ("clean",)},
    "color": {"black": ("oil", "tar", "soot"), "clear": ("water", "clear liquid"), "brown": ("mud",)},
}
"""Phrases that are read beside those of `PHRASES`, and that the grammar does not write: it would not make English."""

DENIALS = (
    "no", "not", "without", "free of", "free from", "never", "neither", "nor", "lacks", "lacking", "isn't", "aren't",
)  # fmt: skip
"""What follows them is not there: "no rust", "without scratches"."""

FRAME_WORDS = frozenset(
    """a an the this that these it its is are was has have having shows showing seen there can you be with of on
    in at near along across around over through to by from and or as which where whose running runs run extending going
    goes going photo picture image view close close-up closeup up surface part parts area piece side sides face body
    object item size sized shape shaped color colored appearance looks look like very quite rather some other another
    liquid one into onto under between next plus also together about what how defect defects flaw flaws damage damaged
    visible it's shown his but only edge edges border borders rim margin outline outer""".split()  # noqa: SIM905
)
"""Words of sentences that are known and have no meaning of their own here."""

_SPELLING = {
    "colour": "color", "gray": "grey", "centred": "centered", "centre": "center", "fibre": "fiber",
    "oxidised": "oxidized", "spilled": "spilt",
}  # fmt: skip


def spelled(text: str) -> str:
    """The spelling that the tables have: American, but "grey"."""
    for other, usual in _SPELLING.items():
        text = text.replace(other, usual)
    return text


def plural(noun: str) -> str:
    """Of a noun phrase: "missing parts", "patches of rust"."""
    head, of, rest = noun.partition(" of ")
    if head.endswith(("y",)) and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    else:
        head += "es" if head.endswith(("s", "x", "ch", "sh")) else "s"
    return head + of + rest
