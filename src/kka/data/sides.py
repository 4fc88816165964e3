"""Which photos of a folder are normal, which are known anomalies, and which form the test set; and what is said of it.

    photos/**/*.jpg                                 all are normal; no test set
    good/*, defect/**                               "good" is normal, "defect" forms the test set
    good/*, test/good/*, test/<defect>/*            as MVTec AD, without a folder for training
    train/good/*, test/good/*, test/<defect>/*      MVTec AD: in test/, what is not normal is anomalous
    train/<class>/**, test/<class>/**, --normal     the other training classes are knowledge
    <class>/**, --normal                            the other classes form the test set

"good", "defect", "train" stand for any word of `kka.common.folder_words`. What the names leave open is an error that
lists the folders and says which option settles it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from kka.common.folder_words import GOOD, only_group, role_of
from kka.common.walk import listed
from kka.data.layout import Layout, Place, marks_something
from kka.data.split import choose_normal, fold
from kka.errors import UserError

HERE = "."
"""As --normal names the photos that are in no sub-folder."""


@dataclass(kw_only=True)
class Sides:
    """Path -> class of each photo that is used."""

    normal: set[str] = field(default_factory=lambda: {GOOD})
    """The classes that are normal."""
    train: dict[str, str] = field(default_factory=dict)
    test: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    said: str = ""
    """What was taken as what, in one line."""


def choose_sides(layout: Layout, normal: Sequence[str] = (), *, source: str) -> Sides:
    """The sides of the photos; `normal` names the normal classes, where the user does.

    Raises UserError where the names do not say which photos are normal, or contradict each other or `normal`.
    """
    places = layout.places
    _refuse_a_collection(layout, source)
    loose = {path: place for path, place in places.items() if place.split is None}
    tested = {path: place for path, place in places.items() if place.split == "test"}
    pool = {path: place for path, place in places.items() if place.split == "train"} if layout.has_train else loose
    if not pool and layout.has_train:
        raise UserError(f"no images in {source}/train: expected the training images there")
    if not pool:
        there = " and ".join(sorted({f"{place.split}/" for place in places.values()}))
        raise UserError(
            f"{source} has {there} but no train/: expected the normal training images in train/good, or in good/ "
            f"beside {there}"
        )
    sides = Sides()
    if normal:
        _by_names(sides, pool, tested, normal, layout, source)
    else:
        _by_words(sides, pool, tested, layout, source)
    if layout.has_train and not tested:
        extra = {path: place for path, place in loose.items() if place.labels == {"anomalous"}} if not normal else {}
        sides.test |= {path: place.kind for path, place in extra.items()}
    used = {*sides.train, *sides.test, *pool, *tested}
    if elsewhere := [path for path in places if path not in used]:
        sides.notes.append(
            f"{len(elsewhere)} images outside train/ and test/ are not used: {_in_folders(elsewhere, layout)}"
        )
    _note_marked_normals(sides, layout)
    sides.notes += layout.notes
    sides.said = _said(sides, layout)
    return sides


def _refuse_a_collection(layout: Layout, source: str) -> None:
    """Of several data sets, each with its own train/ or test/, one must be named."""
    around = sorted({place.before[0] for place in layout.places.values() if place.before})
    unknown = [name for name in around if not role_of(name).known]
    if unknown:
        raise UserError(
            f"{source} holds several data sets, each with its own train/; choose one of: {listed(unknown, 20)}"
        )


def _by_words(
    sides: Sides, pool: Mapping[str, Place], tested: Mapping[str, Place], layout: Layout, source: str
) -> None:
    """As the folders are called; what they leave open is an error."""
    both = [path for path in (*pool, *tested) if len(layout.places[path].labels) > 1]
    if both:
        raise UserError(
            f"{source}: expected folders that say normal or anomalous; these say both: {_in_folders(both, layout)}. "
            "Rename them, or name the folders that are normal: --normal NAME"
        )
    normals = [path for path, place in pool.items() if "normal" in place.labels]
    anomalies = [path for path, place in pool.items() if "anomalous" in place.labels]
    open_ = {path: place for path, place in pool.items() if not place.labels}
    flat = [path for path, place in open_.items() if not place.folders]
    inner = {path: place for path, place in open_.items() if place.folders}
    kinds = sorted({place.folders[0] for place in inner.values()})
    if layout.has_train:
        normals += flat
        if not normals:
            choose_normal((), {}, shown=sorted({place.kind for place in pool.values()}))
        if inner:
            raise UserError(_not_clear(kinds, [], layout, pool, source))
        if anomalies:
            sides.notes.append(
                f"{len(anomalies)} anomalies in {_in_folders(anomalies, layout)} are not used: what lies in train/ and "
                "is not normal is knowledge of the models only where you name the normal: --normal NAME"
            )
    elif normals or anomalies or len(pool) < len(layout.places):
        if open_:
            raise UserError(_not_clear(kinds, flat, layout, pool, source))
        if not normals:
            raise UserError(
                f"{source}: expected normal images to learn from; all {len(anomalies)} are in "
                f"{_in_folders(anomalies, layout)}. Put the normals beside them, into good/"
            )
        sides.test |= {path: pool[path].kind for path in anomalies}
    else:
        if len(kinds) > 1 and not only_group(kinds):
            raise UserError(_not_clear(kinds, flat, layout, pool, source))
        normals = list(pool)
    sides.train |= dict.fromkeys(normals, GOOD)
    _take_tests(sides, tested, {p: GOOD if "normal" in place.labels else place.kind for p, place in tested.items()})


def _by_names(
    sides: Sides,
    pool: Mapping[str, Place],
    tested: Mapping[str, Place],
    normal: Sequence[str],
    layout: Layout,
    source: str,
) -> None:
    """As the user says: the folders named are normal, the others are not."""
    everything = {**pool, **tested}
    named: dict[str, set[str]] = {}
    for place in everything.values():
        for name in place.folders:
            named.setdefault(fold(name), set()).add(name)
    if not named:
        raise UserError(
            f"normal: {source} has no sub-folders, such as train/<class>, to choose among; without them all its images "
            f"are normal. Leave normal out, or sort the images into folders; got {', '.join(normal)}"
        )
    if not layout.has_train and any(not place.folders for place in pool.values()):
        named[HERE] = {HERE}
    wanted = [match for name in normal for match in _matches(name, named)]
    classes = {path: _class_of(place) for path, place in everything.items()}
    chosen = choose_normal(wanted, named, shown=sorted({*classes.values()}))
    one = not layout.has_train and any(is_pattern(name) for name in normal)  # groups of normals, and no classes
    kinds = {
        path: GOOD if one else kind
        for path, place in everything.items()
        if (kind := _chosen_kind(place, chosen)) is not None
    }
    sides.normal = {*kinds.values()}
    classes |= {p: "/".join(everything[p].folders) for p, c in classes.items() if p not in kinds and c in sides.normal}
    forgotten = [
        path
        for path, place in everything.items()
        if path not in kinds and place.folders and role_of(place.folders[0]).label == "normal"
    ]
    if forgotten:
        raise UserError(
            f"normal: {_in_folders(forgotten, layout)} of {source} is called normal, and {', '.join(normal)} does not "
            "name it. Name it as well, or rename the folder"
        )
    sides.train |= {path: kinds[path] for path in pool if path in kinds}
    if not sides.train:
        raise UserError(f"normal: none of the training images in {source} is in {', '.join(sorted(chosen))}")
    rest = [path for path in pool if path not in kinds]
    if flat := [path for path in rest if not pool[path].folders]:
        sides.notes.append(f"{len(flat)} images in no sub-folder are not used")
    others = {path: classes[path] for path in rest if pool[path].folders}
    if layout.has_train:
        known = sides.train | others
        sides.train = {path: known[path] for path in pool if path in known}
    else:
        sides.test |= others
    _take_tests(sides, tested, classes | kinds)


def _class_of(place: Place) -> str:
    """The outermost folder, which is the class, unless its own name says only that there are anomalies."""
    return place.kind if not place.folders or role_of(place.folders[0]).label else place.folders[0]


def is_pattern(name: str) -> bool:
    """Whether a name of --normal stands for several, as "*" does."""
    return bool({*"*?["} & {*name})


def _matches(name: str, named: Collection[str]) -> Sequence[str]:
    """The folders of a pattern such as "*", but for those that say anomalous; a plain name itself, be there such a
    folder or not."""
    if not is_pattern(name):
        return (name,)
    found = [known for known in named if fnmatchcase(known, fold(name)) and role_of(known).label != "anomalous"]
    return found or (name,)


def _chosen_kind(place: Place, chosen: Collection[str]) -> str | None:
    """The chosen folder that makes a photo normal; None where there is none, or another one in it says anomalous."""
    if not place.folders:
        return GOOD if HERE in chosen else None
    inside = [name for name in place.folders if name in chosen]
    against = [name for name in place.folders if name not in chosen and role_of(name).label == "anomalous"]
    return inside[0] if inside and not against else None


def _take_tests(sides: Sides, tested: Mapping[str, Place], kinds: Mapping[str, str]) -> None:
    unlabelled = [path for path, place in tested.items() if not place.folders]
    sides.test |= {path: kinds[path] for path, place in tested.items() if place.folders}
    if unlabelled:
        sides.notes.append(f"{len(unlabelled)} images in test/ are in no class folder and are not used")


def _note_marked_normals(sides: Sides, layout: Layout) -> None:
    """A mask that marks something in a normal speaks for a defect, which would be learnt as normal."""
    marked = [
        path
        for path, kind in sides.train.items()
        if kind in sides.normal and path in layout.masks and marks_something(layout, path)
    ]
    if marked:
        sides.notes.append(
            f"{len(marked)} normals have a mask that marks something: {listed(marked)}. If that is a defect, move the "
            "photos into a folder such as defect/"
        )


def _not_clear(
    kinds: Sequence[str], flat: Sequence[str], layout: Layout, pool: Mapping[str, Place], source: str
) -> str:
    """What the names of the folders leave open, and which option settles it."""
    labelled = sorted({place.kind for place in pool.values() if "normal" in place.labels})
    parts = [f"the sub-folders {listed([*kinds], 20)}"] if kinds else []
    parts += [f"{len(flat)} images in no sub-folder"] if flat else []
    known = sorted({next(iter(p.labels)) + f" in {p.kind}/" for p in pool.values() if p.labels})
    beside = f", beside {listed(known)}" if known else ""
    example = labelled[0] if labelled else HERE if flat and not kinds else "NAME"
    rest = "are knowledge of the models" if layout.has_train else "form the test set as anomalies"
    every = "" if layout.has_train else '; where all are normal: --normal "*"'
    return (
        f"{source}: expected folders whose names say what is normal, such as good/ and defect/; it is not clear what "
        f"{' and '.join(parts)} hold{beside}. Name those that are normal, --normal {example}, and the others {rest}"
        f"{every}"
    )


def _said(sides: Sides, layout: Layout) -> str:
    def of(chosen: Mapping[str, str], normal: bool) -> list[str]:
        return [path for path, kind in chosen.items() if (kind in sides.normal) == normal]

    normals, others = of(sides.train, True), of(sides.train, False)
    good, bad = of(sides.test, True), of(sides.test, False)
    parts = [_counted(normals, "normal", layout)]
    if others:
        parts.append(_counted(others, "image of other classes", layout))
    if good or bad:
        tested = [_counted(good, "normal", layout)] if good else []
        tested += [_counted(bad, "anomaly", layout)] if bad else []
        parts.append(f"{' and '.join(tested)} form the test set")
    else:
        parts.append("no test set")
    if layout.mask_paths:
        parts.append(_counted(layout.mask_paths, "mask", layout))
    return "; ".join(parts)


def _counted(paths: Sequence[str], what: str, layout: Layout) -> str:
    plural = {"anomaly": "anomalies", "image of other classes": "images of other classes"}.get(what, f"{what}s")
    where = _in_folders(paths, layout)
    return f"{len(paths):,} {what if len(paths) == 1 else plural}" + (f" in {where}" if where else "")


def _in_folders(paths: Sequence[str], layout: Layout) -> str:
    """The folders that the images lie in, down to the second below what they all lie in; none of a flat folder."""
    outer = layout.outer
    inner = {"/".join(path.removeprefix(outer).split("/")[:-1][:2]) for path in paths}
    if inner == {""}:
        return outer
    return listed(f"{outer}{name}/" if name else outer or "the folder itself" for name in sorted(inner))
