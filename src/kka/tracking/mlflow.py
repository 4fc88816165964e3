"""MLflow, by its client: a server, a database or a folder."""

import os
import time

from kka.tracking.news import News, Place

EXPERIMENT = "kka"
"""Unless MLFLOW_EXPERIMENT_NAME says otherwise."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Unless the environment says otherwise: a server that is gone holds a run up for seconds, not for minutes."""
MOST_FIGURES, MOST_SETTINGS, LONGEST = 1000, 100, 6000
"""In one request, and letters of a value: MLflow's limits."""


class MLflow:
    """``mlflow[:address]``: MLflow's tracking address; without one that of MLFLOW_TRACKING_URI, or MLflow's default."""

    def __init__(self, argument: str | None, place: Place) -> None:
        from mlflow import MlflowClient

        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self._client = MlflowClient(tracking_uri=argument)
        self._new = place.identity is None
        if place.identity is not None:
            self.identity = place.identity
            self._client.update_run(self.identity, status="RUNNING")
            return
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(wanted)
        experiment = self._client.create_experiment(wanted) if found is None else found.experiment_id
        self.identity = self._client.create_run(experiment, run_name=place.folder.resolve().name).info.run_id

    def log(self, news: News) -> None:
        """Settings are parameters, which MLflow never changes; one that changed later is a tag."""
        from mlflow.entities import Metric, Param, RunTag

        now, run = int(time.time() * 1000), self.identity
        settings = {name: str(value)[:LONGEST] or "none" for name, value in news.settings.items()}
        if self._new:
            params = [Param(name, value) for name, value in settings.items()]
            for begin in range(0, len(params), MOST_SETTINGS):
                self._client.log_batch(run, params=params[begin : begin + MOST_SETTINGS])
        elif settings:
            self._client.log_batch(run, tags=[RunTag(f"changed.{name}", value) for name, value in settings.items()])
        self._new = self._new and not settings
        metrics = [Metric(found.tag, found.value, now, found.step) for found in news.scalars]
        for begin in range(0, len(metrics), MOST_FIGURES):
            self._client.log_batch(run, metrics=metrics[begin : begin + MOST_FIGURES])
        for sheet in news.sheets:
            self._client.log_image(run, sheet.pixels, key=sheet.tag, step=sheet.step)
        for file in news.files:
            self._client.log_artifact(run, str(file))

    def close(self, *, finished: bool) -> None:
        """Say how it ended."""
        self._client.set_terminated(self.identity, "FINISHED" if finished else "KILLED")
