"""Which models of anomalib there are as detectors, by name, and what is to be known of each.

anomalib is not imported: `kka` asks for what stands here before it is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kka.errors import UserError, unknown

PREFIX = "anomalib"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of anomalib."""

    kind: str
    """Its class in `anomalib.models`."""
    names: tuple[str, ...] = ()
    """Arguments of its constructor that name the pretrained network."""
    network: str = ""
    """A function of torchvision's that its module calls: the network that it always looks through."""
    epochs: int | None = None
    """Passes over the normals, where nothing else is asked for: after anomalib's example configurations; 100 where
    none is known. None: the class says it itself, as those that fill a bank in one pass do."""
    batch_size: int = 32
    maps: bool = True
    """Whether it says where."""
    anomalies: bool = False
    """Whether it can learn from anomalies too."""
    with_anomalies: Mapping[str, object] = field(default_factory=dict)
    """Arguments with which it then does."""
    validates: bool = False
    """Whether it settles its scale on normals after the last pass."""
    layers: str = ""
    """The argument that lists layers of a ResNet: for another backbone those of the same strides are taken."""
    smallest: int = 8
    """Pixels a side that it needs."""
    besides: Mapping[str, str] = field(default_factory=dict)
    """Argument that its constructor lacks -> the attribute that it sets."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Argument that names a folder of pictures -> where that lies in anomalib's cache by default."""
    usual_layers: tuple[str, ...] = ()
    """Those layers, where the constructor's default does not say."""
    needs: str = ""
    """What it needs besides a backbone's weights."""
    refused: str = ""
    """Why it is none of ours."""


_TORCHVISION = "torchvision's weights of its backbone, from torch's cache or pytorch.org"
_ANOMALIB_CACHE = "anomalib's own files, which it downloads into its cache when it is first trained"

MODELS: dict[str, Model] = {
    "anomaly_dino": Model(kind="AnomalyDINO", names=("encoder_name",)),
    "cfa": Model(kind="Cfa", names=("backbone",), epochs=30, needs=_TORCHVISION),
    "csflow": Model(kind="Csflow", network="efficientnet_b5", epochs=240, needs=_TORCHVISION),
    "dfkde": Model(kind="Dfkde", names=("backbone",), layers="layers", maps=False),
    "dfm": Model(kind="Dfm", names=("backbone",), layers="layer"),
    "dinomaly": Model(kind="Dinomaly", names=("encoder_name",), epochs=100),
    "draem": Model(kind="Draem", epochs=700, folders={"dtd_dir": "dtd"}, needs=_ANOMALIB_CACHE),
    "dsr": Model(kind="Dsr", epochs=100, needs=_ANOMALIB_CACHE),
    "efficient_ad": Model(kind="EfficientAd", epochs=100, batch_size=1, validates=True, needs=_ANOMALIB_CACHE,
                          folders={"imagenet_dir": "imagenette"}),
    "fastflow": Model(kind="Fastflow", names=("backbone",), epochs=500),
    "foundad": Model(kind="FoundAD", epochs=100),
    "fre": Model(kind="Fre", names=("backbone",), layers="layer", epochs=220),
    "ganomaly": Model(kind="Ganomaly", epochs=100, maps=False),
    "general_ad": Model(kind="GeneralAD", names=("backbone",), epochs=160),
    "glass": Model(kind="Glass", names=("backbone",), layers="layers", usual_layers=("layer2", "layer3"), epochs=100),
    "inp_former": Model(kind="InpFormer", names=("encoder_name",), epochs=100),
    "l2bt": Model(kind="L2BT", epochs=100),
    "mh_patchcore": Model(kind="MHPatchcore", names=("backbone",), layers="layers"),
    "padim": Model(kind="Padim", names=("backbone",), layers="layers"),
    "patchcore": Model(kind="Patchcore", names=("backbone",), layers="layers"),
    "patchflow": Model(kind="Patchflow", names=("backbone",), epochs=200),
    "rad": Model(kind="Rad", names=("backbone",)),
    "reverse_distillation": Model(kind="ReverseDistillation", names=("backbone",), layers="layers", epochs=200),
    "stfpm": Model(kind="Stfpm", names=("backbone",), layers="layers", epochs=100),
    "super_add": Model(kind="SuperADD", names=("backbone",)),
    "supersimplenet": Model(
        kind="Supersimplenet", names=("backbone",), layers="layers", epochs=300, anomalies=True,
        with_anomalies={"supervised": True}, smallest=128, besides={"noise_std": "model.anomaly_generator.noise_std"},
    ),
    "uflow": Model(kind="Uflow", names=("backbone",), epochs=200),
    # Its loss reads labels and masks too, but labelled anomalies did not come to score higher: normals alone.
    "uninet": Model(kind="UniNet", names=("student_backbone", "teacher_backbone"), epochs=100, needs=_TORCHVISION),
    "cflow": Model(kind="Cflow", refused="an image's score depends on those that are scored with it"),
    "anomalyvfm": Model(kind="AnomalyVFM", refused="it is not trained on normals, but comes trained"),
    "cfm": Model(kind="CFM", refused="it reads depth beside colour"),
    "vlm_ad": Model(kind="VlmAd", refused="it asks a chat model on a server, and is not trained"),
    "winclip": Model(kind="WinClip", refused="it is not trained on normals, but compares with words"),
}  # fmt: skip
"""Name -> the model. One that is refused is listed for what its error says."""


def model_named(name: str) -> Model:
    """The model behind `anomalib:<name>`.

    Raises:
        UserError: an unknown name, or one that is no detector of this kind.
    """
    usable = [key for key, model in MODELS.items() if not model.refused]
    if name not in MODELS:
        raise unknown(f"model of {PREFIX}", name, usable)
    if why := MODELS[name].refused:
        raise UserError(f"detector: {PREFIX}:{name} cannot stand here: {why}. Take one of {', '.join(usable)}.")
    return MODELS[name]
