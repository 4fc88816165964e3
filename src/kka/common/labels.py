"""Names and figures as people read them: stages, arms, percentages."""

from kka.common.metrics import Estimate

STAGES = {
    "loading": "Loading data and models",
    "representatives": "Typical normals (Eq. 1-2)",
    "captioning": "Captioning photos",
    "captions": "Writing captions (Eq. 3)",
    "images": "Drawing pictures (Eq. 4)",
    "evaluator": "Training the evaluator (Eq. 5-6)",
    "dpo": "Tuning the language model (Eq. 7)",
    "measuring": "Measuring the language model",
    "detectors": "Training detectors",
    "scoring": "Scoring",
    "lm train": "Training the language model",
    "autoencoder": "Training the autoencoder",
    "drawing": "Training the drawing model",
    "samples": "Drawing samples",
    "features": "Looking at the pictures",
    "comparing": "Comparing the pictures",
    "report": "Writing the report",
    "export": "Writing pictures",
}
"""A stage's name in progress and ledger -> as people read it."""
ARM_LABELS = {
    "none": "no anomalies", "noise": "noise", "other": "something else altogether", "real": "random real images",
}  # fmt: skip
"""Of arms that need no pool."""
OF_A_RUN = ARM_LABELS | {"traces": "the image model's traces"}


def stage_kind(stage: str) -> str:
    """What a stage of a run is, whatever its round and arm: a key of `STAGES`, where people read of it."""
    return "detectors" if stage.startswith(("arms/", "kept/")) else stage.rsplit("/", 1)[-1]


def arm_label(arm: str) -> str:
    """An arm's name as people read it: "KKA (2)"."""
    return OF_A_RUN.get(arm) or f"KKA ({arm.removeprefix('kka-')})"


def percent(figure: Estimate | None) -> str:
    """A figure's mean and 95 % interval, in percent."""
    if figure is None:
        return "-"
    interval = "" if figure.ci95 is None else f" ± {100 * figure.ci95:.1f}"
    return f"{100 * figure.mean:.1f}{interval}"
