"""The configuration."""

import dataclasses
import re
from typing import Any, get_type_hints

import pytest
import yaml

from kka.config import DetectorOptions, RunConfig
from kka.detectors.contrastive.cmda import CMDASettings
from kka.detectors.contrastive.ssd import SSDSettings
from kka.detectors.recontrast.settings import ReContrastSettings
from kka.detectors.sad import SAD
from kka.detectors.simplenet.settings import SimpleNetSettings
from kka.errors import UserError
from kka.settings.backbone import BackboneSettings
from kka.settings.deep_sad import DeepSADSettings
from kka.settings.drawing import DrawingSettings
from kka.settings.language import LanguageSettings

OTHER = RunConfig(
    data="./my photos/ä", normal=("077", "no"), unseen=0.5, describe="a photo of: a bracket", domain=None, size=96,
    rounds=0, mode="add", max_hard_share=1.0, quantile=1.0, folds=1, representatives=3, seed=2**31,
    language=LanguageSettings(dpo_learning_rate=1e-5, top_p=1.0), sad=DeepSADSettings(milestones=(), weight_decay=5e-7),
    detector_options=DetectorOptions(set=("epochs=3",), backbone=BackboneSettings(name="resnet18", mean=(0.5,))),
)  # fmt: skip


@pytest.mark.parametrize("config", [RunConfig(), OTHER])
def test_round_trip(config: RunConfig) -> None:
    """config.yaml must give back the configuration, or --resume refuses its own run."""
    plain = config.as_dict()
    assert RunConfig.from_dict(plain) == config
    stored = yaml.safe_load(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    assert stored == plain and RunConfig.from_dict(stored) == config
    assert set(plain) == {f.name for f in dataclasses.fields(RunConfig)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unseen", 1.0), ("unseen", -0.1), ("unseen", float("nan")), ("rounds", -1), ("initial", 0), ("fresh", 0),
        ("per_round", -1), ("max_hard_share", 0.0), ("max_hard_share", 1.1), ("folds", 0), ("quantile", 0.0),
        ("quantile", 1.01), ("seeds", 0), ("seeds", -3), ("autoencoder_epochs", -1),
    ],
)  # fmt: skip
def test_errors_name_the_field_and_the_value(field: str, value: Any) -> None:
    """"got seed = 0" for seeds = 0 sends a person to the wrong option."""
    with pytest.raises(UserError) as caught:
        RunConfig(**{field: value})
    assert str(caught.value).endswith(f"got {field} = {value!r}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0), ("learning_rate", 0.0), ("batch_size", 0), ("weight_decay", -1e-9), ("eta", -1.0),
        ("pretrain_epochs", -1),
    ],
)  # fmt: skip
def test_deep_sad_is_checked_before_the_run(field: str, value: Any) -> None:
    """Hours of captions and pictures must not precede "epochs: expected at least 1"."""
    with pytest.raises(UserError) as caught:
        DeepSADSettings(**{field: value})
    assert str(caught.value).endswith(f"got sad.{field} = {value!r}")


def test_values_that_only_a_file_can_hold() -> None:
    """A hand-written config.yaml is not checked by the command line."""
    for change in ({"mode": "replace"}, {"sad": {"precision": "fp16"}}):
        with pytest.raises(Exception, match=r"replace|fp16"):  # UserError; in tests the type checker may come first
            RunConfig.from_dict(RunConfig().as_dict() | change)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"ronds": 1}, "ronds"),
        ({"sad": {"epoch": 1}}, "sad.epoch"),
        ({"language": {"beta": 1}}, "language.beta"),
        ({"drawing": {"step": 1}}, "drawing.step"),
        ({"detector_options": {"presets": "cpu"}}, "detector_options.presets"),
    ],
)
def test_unknown_names(values: dict, named: str) -> None:
    """A misspelt setting must not be dropped in silence, nor end in a TypeError; nested ones neither."""
    with pytest.raises(UserError, match=rf"expected only .*; got {named}$"):
        RunConfig.from_dict(values)


def test_a_configuration_from_before_the_detectors_options() -> None:
    """A run that was started by an older version must go on."""
    plain = RunConfig().as_dict()
    del plain["detector_options"]
    assert RunConfig.from_dict(plain) == RunConfig()


def test_a_configuration_from_before_pairs_of_all_rounds() -> None:
    """A run that compared its pool alone goes on so: half of its rounds by another rule would be neither."""
    plain = RunConfig().as_dict()
    del plain["pairs"]
    assert RunConfig.from_dict(plain) == dataclasses.replace(RunConfig(), pairs="pool")
    assert RunConfig().pairs == "judged"


def test_a_configuration_from_before_lists() -> None:
    """A run on a server that asked for a caption an answer goes on so; one of a model here knows of no lists."""
    for lm, found in (("openai:m", 1), ("hf:/m", None)):
        plain = RunConfig(lm=lm).as_dict()
        del plain["language"]["captions_an_answer"]
        assert RunConfig.from_dict(plain).language.captions_an_answer == found
    assert RunConfig.from_dict(RunConfig(lm="openai:m").as_dict()).language.captions_an_answer is None


def test_a_setting_needs_a_value() -> None:
    """`--set epochs` has nothing to set."""
    with pytest.raises(UserError, match="expected name=value"):
        DetectorOptions(set=("epochs",))


def test_milestones_of_older_files_are_epochs() -> None:
    """Runs and detectors from before milestones were shares must go on as they were."""
    plain = RunConfig().as_dict()
    old = plain | {"sad": plain["sad"] | {"epochs": 15, "milestones": [11]}}
    read = RunConfig.from_dict(old).sad
    assert read.falls == (11,) and RunConfig.from_dict(RunConfig.from_dict(old).as_dict()).sad == read
    assert [DeepSADSettings(epochs=n).falls for n in (40, 25, 15)] == [(30,), (18,), (11,)]
    assert SAD.PRESETS["published"].falls == (50,) and SAD.PRESETS["cpu"].falls == (18,)


KINDS = [
    RunConfig, DeepSADSettings, LanguageSettings, DrawingSettings, SSDSettings, CMDASettings,
    SimpleNetSettings, ReContrastSettings, BackboneSettings,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_number_is_infinite_or_none(kind: Any) -> None:
    """A NaN that passes a check ends as a verdict "normal"."""
    hints = get_type_hints(kind)
    numbers = [name for name, hint in hints.items() if re.search(r"\b(float|int)\b", str(hint))]
    assert numbers
    for name in numbers:
        for value in (float("nan"), float("inf"), -float("inf")):
            given = (value,) if "tuple" in str(hints[name]) else value
            with pytest.raises(UserError, match=name):
                kind(**{name: given})


def test_a_backbone_of_old_is_read() -> None:
    """A run from before the backbone's settings were one class must resume, and its report be written."""
    old = {"preset": "cpu", "set": ["epochs=3"], "backbone_weights": "random", "backbone_padding": "same",
           "backbone_mean": [0.5], "backbone_std": None}  # fmt: skip
    for name, expected in ((None, BackboneSettings().name), ("resnet18", "resnet18")):
        options = RunConfig.from_dict({"detector_options": {**old, "backbone": name}}).detector_options
        assert options.backbone == BackboneSettings(name=expected, weights="random", padding="same", mean=(0.5,))
        assert (options.preset, options.set) == ("cpu", ("epochs=3",))


def test_one_number_stands_for_three_colours() -> None:
    """`mean=0.5` is what people write."""
    assert BackboneSettings(mean=0.5).mean == (0.5,)  # type: ignore[arg-type]
