"""Algorithm 1 from Python: the embedded world, one tuning round, a detector after each round. About a minute."""

import tempfile
from pathlib import Path

import kka

config = kka.RunConfig(rounds=1, initial=100, fresh=100, per_round=30)
task = kka.open_task("garden")
language_model, image_model = kka.build_language_model("garden"), kka.build_image_model("garden")
with tempfile.TemporaryDirectory() as folder, kka.Store(Path(folder) / "run", config.as_dict()) as store:
    for r in kka.rounds(task, language_model, image_model, config=config, store=store):
        detector = kka.SAD(settings=kka.DeepSADSettings(epochs=20)).fit(task.normals, r.pool.images)
        figures = kka.evaluate(detector.score(task.test.images), task.test.is_anomaly)
        print(f"round {r.number}: {len(r.pool)} anomalies, AUROC {figures['auroc']:.3f}")
