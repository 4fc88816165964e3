"""The configuration of a run: what `kka run` takes, what `config.yaml` holds. Checked once, here.

Nothing heavy is imported: `kka --help` reads this.
"""

import dataclasses
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from kka.errors import UserError
from kka.settings import Count, Few, Natural, PartialShare, Passes, Seed, Side, Text, settings
from kka.settings.backbone import BackboneSettings
from kka.settings.deep_sad import DeepSADSettings, with_shares
from kka.settings.drawing import DrawingSettings
from kka.settings.filters import ALL, Filter
from kka.settings.fit import Fit
from kka.settings.language import LanguageSettings

AUTO = "auto"
"""Of models, and of the detector of `kka train`: chosen by the data."""


@settings("detector_options")
class DetectorOptions:
    """How the detector is set up."""

    preset: Text | None = None
    """published, small (few images, any machine) or cpu (minutes on two cores). Default: published; of sad small, \
in a run the settings under --sad."""
    set: tuple[str, ...] = ()
    """Single settings on top, as name=value; of your own class, and of a model of anomalib's, also arguments of its \
constructor."""
    backbone: BackboneSettings = field(default_factory=BackboneSettings)

    def __post_init__(self) -> None:
        for text in self.set:
            if "=" not in text:
                raise UserError(f"set: expected name=value, as in --set epochs=20; got {text!r}")


@settings()
class RunConfig:
    """One run of Algorithm 1 and the detectors that compare its rounds."""

    data: Text = "garden"
    """garden, a folder of photos, or a folder with train.parquet and test.parquet."""
    normal: tuple[Text, ...] = ()
    """The normal class: label number or name; several make one normal. A garden kind. Of photos: the \
sub-folders that are normal, or a pattern such as "*"."""
    unseen: PartialShare = 0.0
    """Share of the anomaly classes withheld from language model and image bank; figures are then given apart."""
    describe: Text | None = None
    """Caption of photos without captions: "a photo of a machined bracket". None: an object, where \
the language model is defects."""
    caption_model: Text | None = None
    """hf:<hub id or folder> of an image-to-text model, which writes the captions of photos that have none, as in kka \
data prepare. --describe then stands in where it says nothing."""
    domain: Text | None = None
    """What the pictures show, in the plural, for the prompt: "flowers". Default: by the data, or by --describe."""
    size: Side | None = None
    """Side in pixels at which images are kept. Default: the data's own; for photos as many as the detector makes use \
of, 64 to 256."""
    fit: Fit | None = None
    """How pictures become squares. squash: each side is scaled as it needs; pad: grey is put beside it; crop: the \
central square; tile: photos are cut into overlapping squares of --size pixels, for small defects of large ones. \
Default: photos lose nothing, squash or pad by their shapes; other data sets are cropped."""

    lm: Text = AUTO
    """garden, defects, smollm2, hf:<hub id or folder>, gguf:<file>, openai:<model>, or your own class: \
package.module:Class. auto: garden's own; trained on the known classes' captions; or defects for photos."""
    images: Text = AUTO
    """garden, paint, inpaint:<hub id or folder>, img2img:<…>, edit:<…> (all of which alter normals), \
diffusers:<hub id or folder>, openai:<model>, bank:<folder>, trained: a \
small model that the run first trains on the known classes' pictures (kka images train), and keeps; or your own class: \
package.module:Class. auto: garden's own; the known classes' pictures; or paint for photos."""
    detector: Text = "sad"
    """The detector to train and to compare: sad, ssd, cmda, simplenet, recontrast, patchcore, dfm, anomalib:<model> \
that learns from anomalies (anomalib:supersimplenet), or your own class: package.module:Class. auto: dfm for photos \
that are altered, simplenet for photos beside drawn anomalies, sad for other data."""
    prompt: Text | None = None
    """Name of a prompt template (style, defect) or a text with {caption}, and {domain} or {idea} (what could be \
wrong) if wanted. Default: style; defect with --describe."""

    rounds: Annotated[int, Ge(0), Le(1000)] = 2
    """How often the language model is tuned and the pool renewed."""
    initial: Count = 200
    """Images generated in round 0."""
    fresh: Count = 200
    """Images generated in each later round."""
    repeats: Few | None = None
    """Pictures that one caption may have. Default: 1; more for kinds whose captions in the data are fewer than their \
share of the images asked for, such as class names."""
    per_round: Natural = 60
    """Of them enter the pool, at most."""
    best_of: Few = 1
    """So many times `fresh` are made and judged in each later round, and the pool chooses from them all."""
    choose: Literal["random", "nearest", "band"] = "random"
    """Which of them enter. random: hard ones. nearest: those nearest to the normals, hard or not. band: those at 0.7 \
to 1.5 times the distance below which an anomaly is hard, at most three of one kind of caption, spread as far apart as \
can be. With nearest and band half of the pool stays from round 0."""
    mode: Literal["rep", "add"] = "rep"
    """rep: hard ones replace easy ones; add: they join."""
    max_hard_share: Annotated[float, Gt(0), Le(1)] = 0.5
    """No hard anomaly enters beyond this share of the pool. (A later evaluator may judge the pool otherwise.)"""
    representatives: Few | None = None
    """K of Eq. 2: normals whose captions are put into the prompt. Default: one for about 25 normals, 4 to 8."""
    steer: Literal["dpo", "examples", "none"] = "dpo"
    """How the language model is led to hard anomalies. dpo: Eq. 7, where it can be tuned. examples: the prompts of \
later rounds show captions of hard anomalies in the place of normals' (any language model; an own --prompt gets them \
as its {caption}). none: it samples on."""
    pairs: Literal["judged", "pool"] = "judged"
    """Eq. 7: what is compared. judged: the nearest with the farthest third of all pictures made so far, within one \
prompt and one round. pool: the pool's hard with its easy ones, within one prompt, whatever their rounds."""
    min_preferred: PartialShare = 0.2
    """Where fewer than this share of the pool is hard, its nearest images stand in as the preferred ones: of \
--pairs pool and of --steer examples."""
    autoencoder_epochs: Passes = 20
    """Of the autoencoder of the normals, whose encoder is the phi of Eq. 1-2."""
    folds: Annotated[int, Ge(1), Le(100)] = 2
    """Eq. 6: every image is judged by an evaluator that did not train on its fold. 1: the paper's rule."""
    quantile: Annotated[float, Gt(0), Le(1)] = 0.8
    """Eq. 6: hard = nearer to the centre than this quantile of the normals. The paper: 1."""

    filters: tuple[Filter, ...] = ALL
    """Of an image model that alters normals: which pictures are set aside. outside: changed outside of the mask. \
visible: the defect does not show. duplicate: another picture of the same normal shows the same. typical: of later \
rounds, those that the evaluator places among the most typical normals."""

    defects: Text | None = None
    """Folder of a few photos of real defects at hand, with or without masks and sub-folders by kind. They train \
nothing: told is which of them the kept detector finds, and five and more set a second threshold. A test picture among \
them is set aside by name."""
    train_on_defects: bool = False
    """They join the anomalies of the kept detector, and set no threshold then. The arms that are compared are trained \
with what was imagined alone."""
    match_traces: bool = False
    """The kept detector trains with pictures that the image model drew without an anomaly, as normals: for where \
the report says that it goes by how the model draws."""
    other: Text | None = None
    """Folder of pictures of something else altogether, for the control of that name: what any anomalies do. Default: \
generated textures."""

    seed: Seed = 0
    """Of the loop."""
    split_seed: Seed = 0
    """Of the choice of withheld classes, and of one caption where a normal has several: apart from `seed`, so that
    runs with several seeds share one task and one trained language model."""
    seeds: Few = 3
    """Detectors trained for each arm of the comparison, each with a seed of its own."""
    language: LanguageSettings = field(default_factory=LanguageSettings)
    drawing: DrawingSettings = field(default_factory=DrawingSettings)
    sad: DeepSADSettings = field(default_factory=DeepSADSettings)
    detector_options: DetectorOptions = field(default_factory=DetectorOptions)

    def __post_init__(self) -> None:
        before, _, name = (self.caption_model or "hf:x").partition(":")
        if before != "hf" or not name.strip():
            raise UserError(f"caption_model: expected hf:<model id or folder>; got {self.caption_model!r}")
        if self.train_on_defects and self.defects is None:
            raise UserError("configuration: expected defects, a folder of photos, beside train_on_defects; got none")

    @property
    def template(self) -> str | None:
        """Of the prompts: the one asked for, or by what the captions say."""
        return self.prompt or ("defect" if self.describe else None)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, as `config.yaml` holds them."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Read what `as_dict` gave. One from before `pairs` was a setting compared the pool.

        Raises:
            UserError: a name that is no setting.
        """
        told = {"pairs": "pool", **values}
        if "sad" in told:
            told["sad"] = with_shares(told["sad"])
        if isinstance(told.get("language"), dict) and str(told.get("lm", "")).startswith("openai:"):
            told["language"] = {"captions_an_answer": 1, **told["language"]}  # once there was no other way
        if "fit" not in told and told.get("data", "garden") != "garden":  # once every picture was cropped
            told["fit"] = "crop"
        if "detector_options" in told:
            told["detector_options"] = _with_backbone(told["detector_options"])
        return cls(**told)


def _with_backbone(stored: dict[str, Any]) -> dict[str, Any]:
    """Stored detector options. Once the backbone's settings were backbone, backbone_weights, … among them."""
    if isinstance(stored.get("backbone"), dict):
        return stored
    flat = {name.removeprefix("backbone_"): value for name, value in stored.items() if name.startswith("backbone")}
    name = flat.pop("backbone", None)
    rest = {name: value for name, value in stored.items() if not name.startswith("backbone")}
    return rest | {"backbone": flat if name is None else {"name": name, **flat}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
