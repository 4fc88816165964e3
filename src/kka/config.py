"""The configuration of a run: what `kka run` takes, what `config.yaml` holds. Checked once, here.

Nothing heavy is imported: `kka --help` reads this.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from kka.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LanguageOptions:
    """How the language model samples and is tuned (Eq. 3, 7)."""

    temperature: float = 1.0
    top_p: float = 0.95
    max_new_tokens: int = 96
    batch_size: int = 256
    """Answers sampled at once."""
    load_in_4bit: bool = False
    """bitsandbytes NF4 (CUDA only)."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    dpo_beta: float = 0.1
    dpo_max_kl: float = 3.0
    """Nats a token of the captions: a tuned model that is farther from the untuned one goes back half of its way, \
until it is not. Beyond that models repeat themselves."""
    dpo_steps: int = 40
    dpo_batch: int = 16
    dpo_micro_batch: int | None = None
    dpo_learning_rate: float | None = None
    """None: the published 5e-5, or 1e-3 for a model of under 100 million parameters."""
    lora_rank: int = 8
    lora_alpha: int = 8
    lora_dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """How the image model draws (Eq. 4). What is not set is left to the model; what it does not know is refused."""

    steps: int | None = None
    """diffusers: denoising steps."""
    guidance: float | None = None
    """diffusers: classifier-free guidance."""
    size: int | None = None
    """diffusers: side in pixels at which it draws."""
    batch_size: int | None = None
    """diffusers: pictures at once."""
    negative_prompt: str | None = None
    """diffusers: what the pictures should not show."""
    embedding: str | None = None
    """bank: hf:<sentence encoder> in the place of TF-IDF."""


@dataclass(frozen=True, kw_only=True)
class SADOptions:
    """Deep SAD, as evaluator and as detector (Eq. 5)."""

    epochs: int = 40
    """Published: 150 to 300."""
    learning_rate: float = 3e-4
    milestones: tuple[int, ...] = (30,)
    """Epochs at which the learning rate falls to a tenth."""
    batch_size: int = 32
    weight_decay: float = 5e-7
    eta: float = 1.0
    """Weight of the anomalies' term."""
    pretrain_epochs: int = 0
    """Of the autoencoder that gives the first weights; 0: random ones, which measured better."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        rules = {
            "epochs >= 1": self.epochs >= 1,
            "learning_rate > 0": self.learning_rate > 0,
            "batch_size >= 1": self.batch_size >= 1,
            "weight_decay >= 0": self.weight_decay >= 0,
            "eta >= 0": self.eta >= 0,
            "pretrain_epochs >= 0": self.pretrain_epochs >= 0,
            "precision to be auto, fp32 or bf16": self.precision in ("auto", "fp32", "bf16"),
        }
        _require(self, rules, "sad.")


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """How the detector is set up."""

    preset: str | None = None
    """published, small (few images, any machine) or cpu (minutes on two cores). Default: published; of sad small, \
in a run the settings under --sad."""
    set: tuple[str, ...] = ()
    """Single settings on top, as name=value."""
    backbone: str | None = None
    """Of simplenet and recontrast: a timm architecture. Default: wide_resnet50_2.tv_in1k."""
    backbone_weights: str = "hub"
    """hub (downloaded), random, or a .safetensors file of the whole model."""
    backbone_padding: Literal["same"] | None = None
    """For weights that were trained with TensorFlow's padding."""
    backbone_mean: tuple[float, ...] | None = None
    """Of the backbone's input in 0 to 1; one number or three. Default: the architecture's."""
    backbone_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for text in self.set:
            if "=" not in text:
                raise UserError(f"set: expected name=value, as in --set epochs=20; got {text!r}")
        if self.backbone_padding not in (None, "same"):
            raise UserError(f"backbone padding: expected same or none; got {self.backbone_padding!r}")

    @property
    def names_backbone(self) -> bool:
        """Whether anything is said of a backbone."""
        plain = DetectorOptions()
        names = [field.name for field in dataclasses.fields(self) if field.name.startswith("backbone")]
        return any(getattr(self, name) != getattr(plain, name) for name in names)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DetectorOptions":
        """Read what `config.yaml` holds; raises UserError for a name that is no option."""
        _require_known(cls, values, "detector_options.")
        tuples: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values | tuples)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run of Algorithm 1 and the detectors that compare its rounds."""

    data: str = "garden"
    """garden, a folder of photos, or a folder with train.parquet and test.parquet."""
    normal: tuple[str, ...] = ()
    """The normal class: label number or name; several make one normal. A garden kind. Not for plain photos."""
    unseen: float = 0.0
    """Share of the anomaly classes withheld from language model and image bank; figures are then given apart."""
    describe: str | None = None
    """Caption of photos without captions: "a photo of a machined bracket"."""
    domain: str | None = None
    """What the pictures show, in the plural, for the prompt: "flowers". Default: by the data."""
    size: int | None = None
    """Side in pixels at which images are kept. Default: the data's own; for photos as many as the detector makes use \
of, 64 to 256."""

    lm: str = "auto"
    """garden, hf:<hub id or folder>, openai:<model>. auto: garden's own; trained on the known classes' captions; or \
hf:Qwen/Qwen3-4B-Instruct-2507 for photos."""
    images: str = "auto"
    """garden, diffusers:<hub id or folder>, openai:<model>, bank:<folder>. auto: garden's own; the known classes' \
pictures; or diffusers:stabilityai/sd-turbo for photos."""
    detector: str = "sad"
    """The detector to train and to compare: sad, ssd, cmda, simplenet, recontrast."""
    prompt: str | None = None
    """Name of a prompt template (style, defect) or a text with {caption}. Default: style; defect with --describe."""

    rounds: int = 2
    """How often the language model is tuned and the pool renewed."""
    initial: int = 200
    """Images generated in round 0."""
    fresh: int = 200
    """Images generated in each later round."""
    repeats: int | None = None
    """Pictures that one caption may have. Default: 1; more for kinds whose captions in the data are fewer than their \
share of the images asked for, such as class names."""
    per_round: int = 60
    """Hard ones among them that enter the pool, at most."""
    mode: Literal["rep", "add"] = "rep"
    """rep: hard ones replace easy ones; add: they join."""
    max_hard_share: float = 0.5
    """No hard anomaly enters beyond this share of the pool. (A later evaluator may judge the pool otherwise.)"""
    representatives: int | None = None
    """K of Eq. 2: normals whose captions are put into the prompt. Default: one for about 25 normals, 1 to 8."""
    steer: Literal["dpo", "examples", "none"] = "dpo"
    """How the language model is led to hard anomalies. dpo: Eq. 7, where it can be tuned. examples: the prompts of \
later rounds show captions of hard anomalies in the place of normals' (any language model; an own --prompt gets them \
as its {caption}). none: it samples on."""
    min_preferred: float = 0.2
    """Eq. 7: where fewer than this share of the pool is hard, its nearest images stand in as the preferred ones."""
    autoencoder_epochs: int = 20
    """Of the autoencoder of the normals, whose encoder is the phi of Eq. 1-2."""
    folds: int = 2
    """Eq. 6: every image is judged by an evaluator that did not train on its fold. 1: the paper's rule."""
    quantile: float = 0.8
    """Eq. 6: hard = nearer to the centre than this quantile of the normals. The paper: 1."""

    seed: int = 0
    """Of the loop."""
    split_seed: int = 0
    """Of the choice of withheld classes, and of one caption where a normal has several: apart from `seed`, so that
    runs with several seeds share one task and one trained language model."""
    seeds: int = 3
    """Detectors trained for each arm of the comparison, each with a seed of its own."""
    language: LanguageOptions = field(default_factory=LanguageOptions)
    drawing: DrawingOptions = field(default_factory=DrawingOptions)
    sad: SADOptions = field(default_factory=SADOptions)
    detector_options: DetectorOptions = field(default_factory=DetectorOptions)

    def __post_init__(self) -> None:
        rules = {
            "0 <= unseen < 1": 0 <= self.unseen < 1,
            "rounds >= 0": self.rounds >= 0,
            "initial >= 1": self.initial >= 1,
            "fresh >= 1": self.fresh >= 1,
            "repeats >= 1": self.repeats is None or self.repeats >= 1,
            "per_round >= 0": self.per_round >= 0,
            "0 < max_hard_share <= 1": 0 < self.max_hard_share <= 1,
            "0 <= min_preferred < 1": 0 <= self.min_preferred < 1,
            "autoencoder_epochs >= 0": self.autoencoder_epochs >= 0,
            "folds >= 1": self.folds >= 1,
            "0 < quantile <= 1": 0 < self.quantile <= 1,
            "seeds >= 1": self.seeds >= 1,
            "mode to be rep or add": self.mode in ("rep", "add"),
            "steer to be dpo, examples or none": self.steer in ("dpo", "examples", "none"),
        }
        _require(self, rules)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, as `config.yaml` holds them."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Read what `as_dict` gave.

        Raises:
            UserError: a name that is no setting.
        """
        _require_known(cls, values)
        sad = values.get("sad", {})
        _require_known(SADOptions, sad, "sad.")
        _require_known(LanguageOptions, values.get("language", {}), "language.")
        _require_known(DrawingOptions, values.get("drawing", {}), "drawing.")
        sad = sad | {"milestones": tuple(sad["milestones"])} if "milestones" in sad else sad
        return cls(
            **values
            | {
                "normal": tuple(values.get("normal", ())),
                "language": LanguageOptions(**values.get("language", {})),
                "drawing": DrawingOptions(**values.get("drawing", {})),
                "sad": SADOptions(**sad),
                "detector_options": DetectorOptions.from_dict(values.get("detector_options", {})),
            }
        )


def _require(config: Any, rules: dict[str, bool], prefix: str = "") -> None:
    """Raises UserError for the first rule that does not hold; each names one field."""
    for rule, holds in rules.items():
        if not holds:
            name = next(word for word in rule.split() if hasattr(config, word))
            raise UserError(f"configuration: expected {prefix}{rule}; got {prefix}{name} = {getattr(config, name)!r}")


def _require_known(kind: type[Any], values: dict[str, Any], prefix: str = "") -> None:
    known = {f.name for f in dataclasses.fields(kind)}
    if extra := sorted(values.keys() - known):
        names = ", ".join(f"{prefix}{name}" for name in sorted(known))
        raise UserError(f"configuration: expected only {names}; got {', '.join(prefix + name for name in extra)}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
