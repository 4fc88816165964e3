"""UCM-Caption: the aerial images of UC Merced Land Use, with five sentences each.

Images: Yang and Newsam, "Bag-of-visual-words and spatial extensions for land-use classification", 2010, as
`UCMerced_LandUse/Images/<class>/<class>00.tif`, or numbered `1.tif` to `2100.tif`, a hundred of each class in turn.
Captions: Qu et al., "Deep semantic understanding of high resolution remote sensing image", 2016, as one JSON file,
{"images": [{"filename": "1.tif", "split": "train", "sentences": [{"raw": "..."}]}]}, which names images either way.
"""

import re
from pathlib import Path
from typing import Any, Literal

from kka.common.images import SUFFIXES
from kka.common.json_text import parse_json
from kka.data.prepare.download import Download
from kka.data.prepare.options import PrepareOptions
from kka.data.prepare.records import DataSet, Found, Record, locate, unpack, verify
from kka.errors import UserError

SPOKEN = {
    "agricultural": "farmland",
    "airplane": "an airplane",
    "baseballdiamond": "a baseball diamond",
    "beach": "a beach",
    "buildings": "buildings",
    "chaparral": "chaparral",
    "denseresidential": "a dense residential area",
    "forest": "a forest",
    "freeway": "a freeway",
    "golfcourse": "a golf course",
    "harbor": "a harbor",
    "intersection": "an intersection",
    "mediumresidential": "a medium residential area",
    "mobilehomepark": "a mobile home park",
    "overpass": "an overpass",
    "parkinglot": "a parking lot",
    "river": "a river",
    "runway": "a runway",
    "sparseresidential": "a sparse residential area",
    "storagetanks": "storage tanks",
    "tenniscourt": "a tennis court",
}
"""Class, in the order of the labels -> as a caption says it."""
NAMES = tuple(SPOKEN)
EACH = 100
ARCHIVE = Download(
    url="http://weegee.vision.ucmerced.edu/datasets/UCMerced_LandUse.zip", md5="5b7ec56793786b6dc8a908e8854ac0e4"
)
SIDES: dict[str, Literal["train", "test"]] = {"train": "train", "restval": "train", "val": "test", "test": "test"}
"""The caption file's parts -> ours: its validation images are tested on."""


def place(name: str) -> tuple[int, int] | None:
    """Label and number within the class (from 0) that a file name means; None for others.

    >>> place("airplane07.tif"), place("108.tif")
    ((1, 7), (1, 7))
    """
    stem = Path(name).stem.lower()
    if match := re.fullmatch(r"([a-z]+)(\d\d)", stem):
        kind, number = match.groups()
        return (NAMES.index(kind), int(number)) if kind in SPOKEN else None
    if re.fullmatch(r"\d{1,4}", stem) and 1 <= int(stem) <= EACH * len(NAMES):
        return divmod(int(stem) - 1, EACH)
    return None


def find(dataset: DataSet, folder: Path, work: Path, options: PrepareOptions) -> Found:
    """The images below `folder`, or of the archive there, with their sentences and split if the JSON is there."""
    files = _images(folder)
    archive = locate(folder, ARCHIVE.name)
    facts: list[dict[str, str]] = []
    faults: list[str] = []
    if not files and archive is not None:
        facts, faults = verify([archive], dataset.downloads)
        files = _images(unpack(archive, work))
    if not files:
        raise UserError(f"expected {ARCHIVE.name}, or its folder UCMerced_LandUse, in {folder}; found neither. {WHERE}")
    written = options.captions or _caption_file(folder)
    entries = read_captions(written) if written is not None else {}
    notes = []
    if written is None:
        notes.append(f"no captions found: the class name stands in, and the split is random. {CAPTIONS_WHERE}")
    else:
        facts += verify([written], ())[0]
    records = []
    for key, file in sorted(files.items()):
        side, captions = entries.get(key, (None, ()))
        records.append(
            Record(
                name=f"{NAMES[key[0]]}{key[1]:02d}.tif",
                label=key[0],
                side=side,
                load=lambda file=file: file,  # type: ignore[misc]
                captions=captions,
            )
        )
    return Found(
        records=records,
        source={"files": facts},
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _images(folder: Path) -> dict[tuple[int, int], Path]:
    found: dict[tuple[int, int], Path] = {}
    for file in sorted(folder.rglob("*")):
        key = place(file.name) if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") else None
        if key is not None:
            found.setdefault(key, file)
    return found


def _caption_file(folder: Path) -> Path | None:
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        try:
            read_captions(file)
        except UserError:
            continue
        return file
    return None


def read_captions(file: Path) -> dict[tuple[int, int], tuple[Literal["train", "test"] | None, tuple[str, ...]]]:
    """(label, number) -> side and sentences. Raises UserError for a file of another form, with the entry at fault."""
    if file.is_dir():
        found = _caption_file(file)
        if found is None:
            raise UserError(f"captions: expected the JSON file of UCM-Captions in {file}; found none. {CAPTIONS_WHERE}")
        file = found
    try:
        content: Any = parse_json(file.read_text(encoding="utf-8-sig"))
        images = content["images"]
        entries = {}
        for entry in images:
            key = place(entry["filename"])
            if key is None:
                name = entry["filename"]
                raise UserError(f"{file}: expected file names such as 1.tif or airplane07.tif; got {name!r}")
            sentences = (sentence["raw"].strip() for sentence in entry["sentences"])
            entries[key] = (SIDES.get(str(entry.get("split", ""))), tuple(s for s in sentences if s))
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f'{file}: expected {{"images": [{{"filename", "split", "sentences": [{{"raw"}}]}}]}}; got {error!r}. '
            f"{CAPTIONS_WHERE}"
        ) from error
    return entries


WHERE = (
    f"Get {ARCHIVE.name} from http://weegee.vision.ucmerced.edu/datasets/landuse.html and give the folder it lies in "
    "with --from."
)
CAPTIONS_WHERE = (
    "Get UCM_captions from the links at https://github.com/201528014227051/RSICD_optimal and give its dataset.json "
    "with --captions."
)
UCM_CAPTION = DataSet(
    name="ucm_caption",
    label_names=NAMES,
    first_label=0,
    size=256,
    encoding="jpeg",
    splits=("official", "random"),
    train_share=0.8,
    expected={"all": EACH},
    total=EACH * len(NAMES),
    downloads=(ARCHIVE,),
    where=WHERE,
    find=find,
    captions=lambda label: f"an aerial photo of {SPOKEN[NAMES[label]]}",
)
