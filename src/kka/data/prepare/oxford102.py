"""Oxford-102 flowers: `102flowers.tgz` or its folder `jpg`, `imagelabels.mat`, `setid.mat`; captions of Reed et al.

Nilsback and Zisserman, "Automated flower classification over a large number of classes", ICVGIP 2008.
Captions: Reed et al., "Learning deep representations of fine-grained visual descriptions", CVPR 2016, ten an image,
in `text_c10/class_00001/image_00001.txt`, one a line.
"""

from pathlib import Path
from typing import Literal

from kka.data.prepare.download import Download
from kka.data.prepare.names import with_article
from kka.data.prepare.options import PrepareOptions
from kka.data.prepare.records import DataSet, Found, Record, locate, unpack, verify
from kka.errors import UserError

NAMES = tuple(
    name.strip()
    for name in """
    pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon orchid,
    bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle, yellow iris,
    globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily,
    pincushion flower, fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers, stemless gentian,
    artichoke, sweet william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly,
    ruby-lipped cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily,
    poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy,
    primula, sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia,
    cautleya spicata, japanese anemone, black-eyed susan, silverbush, californian poppy, osteospermum, spring crocus,
    bearded iris, windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory,
    passion flower, lotus lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose,
    tree mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove,
    bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily
    """.split(",")  # noqa: SIM905 (a table)
)
"""By label, 1 to 102; not part of the official files."""
PREFIX = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
IMAGES = Download(url=f"{PREFIX}102flowers.tgz", md5="52808999861908f626f3c1f4e79d11fa")
LABELS = Download(url=f"{PREFIX}imagelabels.mat", md5="e0620be6f572b9609742df49c70aed4d")
SPLIT = Download(url=f"{PREFIX}setid.mat", md5="a5357ecc9cb78c4bef273ce3793fc85c")
SIDES: dict[str, Literal["train", "test"]] = {"trnid": "train", "valid": "train", "tstid": "test"}
"""Oxford's three parts -> ours: its validation images train too."""


def find(dataset: DataSet, folder: Path, work: Path, options: PrepareOptions) -> Found:
    """The images of `jpg`, or of the archive that holds it, with labels, Oxford's split, and captions if there."""
    labels = locate(folder, LABELS.name)
    if labels is None:
        raise UserError(f"expected {LABELS.name} in {folder}; found none. {WHERE}")
    setid = locate(folder, SPLIT.name)
    if setid is None and options.split == "official":
        raise UserError(f"split official: expected {SPLIT.name} in {folder}; found none. {WHERE}")
    jpg, archive = locate(folder, "jpg/image_00001.jpg", "jpg"), locate(folder, IMAGES.name)
    files = [file for file in (labels, setid) if file is not None]
    if jpg is None and archive is not None:
        files.append(archive)
        jpg = locate(unpack(archive, work), "jpg")
    if jpg is None:
        raise UserError(f"expected {IMAGES.name}, or its folder jpg, in {folder}; found neither. {WHERE}")
    facts, faults = verify(files, dataset.downloads)
    jpg = jpg if jpg.is_dir() else jpg.parent
    captions, notes = read_captions(options.captions or folder)
    if options.captions is not None and not captions:
        raise UserError(
            f"captions: expected text_c10 with class_00001/image_00001.txt and so on in {options.captions}; got none. "
            f"{CAPTIONS_WHERE}"
        )
    sides = _sides(setid) if setid is not None else {}
    records = []
    for i, label in enumerate(_integers(labels, "labels"), start=1):
        file = jpg / f"image_{i:05d}.jpg"
        if not 1 <= label <= len(NAMES):
            raise UserError(f"{labels}: expected labels from 1 to {len(NAMES)}; got {label} for image {i}. {WHERE}")
        if file.is_file():
            records.append(
                Record(
                    name=file.name,
                    label=label,
                    side=sides.get(i),
                    load=lambda file=file: file,  # type: ignore[misc]
                    captions=captions.get(file.stem, ()),
                )
            )
    return Found(records=records, source={"files": facts}, faults=tuple(faults), notes=tuple(notes))


def read_captions(folder: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Stem of the image's name -> its captions, from text_c10 in `folder` or `folder` itself; and notes.

    A file that is not text is named in a note.
    """
    root = locate(folder, "text_c10") or folder
    captions: dict[str, tuple[str, ...]] = {}
    notes = []
    for file in sorted(root.glob("class_*/image_*.txt")):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            notes.append(f"captions of {file.stem} cannot be read: {error}")
            continue
        captions[file.stem] = tuple(line.strip() for line in lines if line.strip())
    return captions, notes


def _integers(file: Path, *names: str) -> list[int]:
    from scipy.io import loadmat

    try:
        content = loadmat(file)
        return [int(value) for name in names for value in content[name].ravel()]
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise UserError(f"{file}: expected a MATLAB file with {', '.join(names)}; got {error!r}. {WHERE}") from error


def _sides(setid: Path) -> dict[int, Literal["train", "test"]]:
    return {i: side for name, side in SIDES.items() for i in _integers(setid, name)}


WHERE = (
    f"Get {IMAGES.name}, {LABELS.name} and {SPLIT.name} from {PREFIX}index.html and give the folder they lie in with "
    "--from."
)
CAPTIONS_WHERE = (
    "Get cvpr2016_flowers.tar.gz from the links at https://github.com/reedscot/cvpr2016, unpack it, and give its "
    "folder text_c10 with --captions."
)
OXFORD102 = DataSet(
    name="oxford102",
    label_names=NAMES,
    first_label=1,
    size=128,
    encoding="jpeg",
    splits=("random", "official"),
    train_share=0.7,
    expected={},
    total=8189,
    downloads=(LABELS, SPLIT, IMAGES),
    where=WHERE,
    find=find,
    captions=lambda label: f"a photo of {with_article(NAMES[label - 1])}",
    aliases={"lotus": 78},
)
