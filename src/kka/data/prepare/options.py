"""What `kka data prepare` takes. Nothing heavy is imported: `kka --help` reads this."""

from dataclasses import field
from pathlib import Path
from typing import Literal

from kka.errors import UserError
from kka.settings import Seed, Side, Text, settings

HUB = "hf:"
"""How a data set of the Hugging Face hub is named: hf:<dataset id or folder>."""


@settings("columns")
class Columns:
    """Columns of a hub data set that are not called as usual. Default: the first usual name that is there."""

    image: Text | None = None
    """Usually image or img."""
    label: Text | None = None
    """Usually fine_label or label."""
    captions: tuple[Text, ...] = ()
    """One column of lists of texts, or one or several of texts."""
    label_base: Literal[0, 1] | None = None
    """The number of the first class, where the numbers alone do not tell."""


@settings()
class PrepareOptions:
    """How a data set is found, split and stored."""

    source: Text | None = None
    """A folder with the official files, or hf:<dataset id>. Default: download the official files."""
    captions: Path | None = None
    """oxford102: the folder of Reed et al.'s text_c10. ucm_caption: the JSON file of UCM-Captions.
    Default: looked for in the source."""
    caption_model: Text | None = None
    """hf:<image-to-text model> for images that have no caption. Default: the class name, 'a photo of a rose'."""
    split: Literal["official", "random"] | None = None
    """official: the data set's own. random: within each class, identical files on one side. Default: random for
    oxford102 (70/30, which fits the paper's counts), official for the others."""
    seed: Seed = 0
    """Of the random split."""
    size: Side | None = None
    """Side of the stored square pictures in pixels. Default: 32 (cifar100), 128 (oxford102), 256 (ucm_caption)."""
    downloads: Path | None = None
    """Where downloads are kept. Default: downloads/ in kka's cache."""
    columns: Columns = field(default_factory=Columns)
    allow_partial: bool = False
    """Take a subset, or files that are not the official ones; the summary and dataset.json say so."""
    overwrite: bool = False
    """Replace a data set that is in the output folder already."""

    def __post_init__(self) -> None:
        if self.source is not None and not self.source.removeprefix(HUB).strip():
            raise UserError(f"from: expected a folder or hf:<dataset id>; got {self.source!r}")
        if self.captions is not None and not self.captions.exists():
            raise UserError(f"captions: expected a file or folder; {self.captions} does not exist")
        if self.caption_model is not None and not self.caption_model.removeprefix(HUB).strip():
            raise UserError(f"caption_model: expected hf:<model id or folder>; got {self.caption_model!r}")
        if self.caption_model is not None and not self.caption_model.startswith(HUB):
            raise UserError(f"caption_model: expected hf:<model id or folder>; got {self.caption_model!r}")
