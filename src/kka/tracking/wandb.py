"""Weights & Biases: its server, or offline files that `wandb sync` sends later."""

import os
import uuid
from itertools import groupby

from kka.errors import UserError
from kka.tracking.news import News, Place

PROJECT = "kka"
"""Unless the spec or WANDB_PROJECT says otherwise."""
PATIENCE = 60.0
"""Seconds for the server to answer at the start."""


class WandB:
    """``wandb[:project]`` or ``wandb:entity/project``. WANDB_MODE=offline writes files into the run's folder."""

    def __init__(self, argument: str | None, place: Place) -> None:
        import wandb

        entity, _, project = (argument or os.environ.get("WANDB_PROJECT") or PROJECT).rpartition("/")
        self.identity = place.identity or uuid.uuid4().hex[:8]
        self._run = wandb.init(
            project=project, entity=entity or None, id=self.identity, name=place.folder.resolve().name,
            resume="allow", dir=str(place.folder),
            settings=wandb.Settings(console="off", silent=True, init_timeout=PATIENCE),
        )  # fmt: skip
        for axis, tags in (("round", "*"), ("epoch", "loss/*")):
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(tags, step_metric=axis)

    @staticmethod
    def check() -> None:
        """Raises UserError where nobody is logged in: the library would ask in the middle of a run."""
        import wandb

        if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.api.api_key:
            raise UserError(
                "track: wandb: expected an account: `wandb login`, or set WANDB_API_KEY; or set WANDB_MODE=offline and "
                "send the files later by `wandb sync`."
            )

    def log(self, news: News) -> None:
        """Each step is one entry, whose x-axis is the round or the epoch."""
        import wandb

        if news.settings:
            self._run.config.update(dict(news.settings), allow_val_change=True)
        for (axis, step), found in groupby(news.scalars, key=lambda scalar: (scalar.axis, scalar.step)):
            self._run.log({axis: step, **{scalar.tag: scalar.value for scalar in found}})
        for sheet in news.sheets:
            self._run.log({"round": sheet.step, sheet.tag: wandb.Image(sheet.pixels)})
        for file in news.files:
            artifact = wandb.Artifact(f"{self.identity}-{file.stem}", type="report")
            artifact.add_file(str(file))
            self._run.log_artifact(artifact)

    def close(self, *, finished: bool) -> None:
        """Send what is left."""
        self._run.finish(exit_code=0 if finished else 1)
