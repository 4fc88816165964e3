"""Algorithm 1 whole, with the fakes of `fakes.py`: what a run holds, and its odd cases."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from fakes import FAST, BlackPainter, FakeLanguageModel, Painter, TunableFake, caption_of, run_fake, small_task
from kka.algorithm.facts import Tuning
from kka.algorithm.folder import RunFolder
from kka.algorithm.loop import rounds
from kka.algorithm.pool import AnomalyPool
from kka.common.store import Store
from kka.config import RunConfig
from kka.deploy.anomalies import Anomalies
from kka.errors import UserError
from kka.protocols import ImageModel, LanguageModel, TunableLanguageModel
from kka.run.comparison import arms

QUICK = replace(FAST, rounds=1, initial=12, fresh=8)


def read(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def last_pool(config: RunConfig, folder: Path, **models):
    """The rounds alone, without the detectors."""
    with Store(folder, config.as_dict()) as store:
        made = {"language_model": TunableFake(), "image_model": Painter()} | models
        task = made.pop("task", None) or small_task()
        return list(rounds(task, **made, config=config, store=store))


def test_fakes_keep_the_protocols() -> None:
    """A stand-in that is none proves nothing."""
    assert isinstance(TunableFake(), TunableLanguageModel) and isinstance(Painter(), ImageModel)
    assert isinstance(FakeLanguageModel(), LanguageModel) and not isinstance(FakeLanguageModel(), TunableLanguageModel)


def test_summary_holds_what_is_promised(finished: Path) -> None:
    """Reports and tables read summary.json alone."""
    summary = json.loads((finished / "summary.json").read_text())
    assert {"task", "seeds", "arms", "rounds", "seconds"} <= set(summary)
    assert list(summary["arms"]) == ["none", "noise", "other", "kka-0", "kka-1", "kka-2", "real"]
    for figures in summary["arms"].values():
        for name in ("auroc", "seen", "unseen"):
            assert set(figures[name]) == {"mean", "ci95", "per_seed"}
            assert figures[name]["mean"] == pytest.approx(np.mean(figures[name]["per_seed"]))
    assert [r["round"] for r in summary["rounds"]] == [0, 1, 2]
    for r in summary["rounds"]:
        keys = {"round", "generated", "pool_size", "hard_share_fresh", "hard_share_pool", "auroc", "ci95"}
        assert keys <= set(r) and (r["round"] == 0 or "dpo" in r)
        assert r["auroc"] == summary["arms"][f"kka-{r['round']}"]["auroc"]["mean"]
    assert [r["generated"] for r in summary["rounds"]] == [24, 16, 16]
    assert [r["pool_size"] for r in summary["rounds"]] == [24, 24, 24]
    assert set(summary["spent"]) == {"tokens_read", "tokens_written", "cost"}
    assert summary["task"]["name"] == "squares" and summary["seconds"]["rounds/1/evaluator"] > 0


def test_directory_holds_what_is_promised(finished: Path) -> None:
    """`rounds/<n>/` holds captions, images, scores, pairs, adapter and evaluator; nothing is left half-done."""
    for name in ("config.yaml", "summary.json", "ledger.json", "pool.parquet"):
        assert (finished / name).is_file(), name
    assert (finished / "arms/kka-2/seed-0/detector/detector.json").is_file()
    for r in (1, 2):
        for name in ("captions/captions.jsonl", "images/images.parquet", "scores/scores.jsonl", "dpo/pairs.jsonl"):
            assert (finished / "rounds" / str(r) / name).is_file(), name
        assert (finished / f"rounds/{r}/dpo/adapter").is_dir()
        assert len(list((finished / f"rounds/{r}/evaluator").glob("fold-*/*.safetensors"))) == 2
    assert [p.name for p in finished.rglob(".*")] == []
    ledger = json.loads((finished / "ledger.json").read_text())
    assert ledger["totals"]["images"] == 24 + 16 + 16 == ledger["totals"]["captions"]
    assert ledger["totals"]["tokens"] > 0


def test_numbers_agree_with_each_other(finished: Path) -> None:
    """The shares of the summary, the scores on disk and the histories in the pool tell one story."""
    summary = json.loads((finished / "summary.json").read_text())
    pool = AnomalyPool.load(finished / "pool.parquet")
    fresh = {r: read(finished, f"rounds/{r}/scores/scores.jsonl") for r in (1, 2)}
    before = {r: read(finished, f"rounds/{r}/evaluator/scores.jsonl") for r in (1, 2)}
    for r in (1, 2):
        facts = summary["rounds"][r]
        assert facts["hard_share_fresh"] == np.mean([row["hard"] for row in fresh[r]])
        assert facts["hard_share_before"] == np.mean([row["hard"] for row in before[r]])
    assert summary["rounds"][0]["hard_share_pool"] == summary["rounds"][1]["hard_share_before"]
    assert summary["rounds"][2]["hard_share_pool"] == pool.hard.mean()
    judged = {(r, row["id"]): row["relative_distance"] for part in (fresh, before) for r in part for row in part[r]}
    for entry in pool.entries:
        assert entry.history == tuple((r, judged[r, entry.id]) for r in range(max(1, entry.round), 3))
        assert entry.round == 0 or entry.history[0][1] < 1  # entered because it was hard


def test_lineage_can_be_drawn_again(finished: Path) -> None:
    """Caption and seed of every image give its pixels, prompts hold a normal's caption, and no caption stands twice."""
    pool = AnomalyPool.load(finished / "pool.parquet")
    again = Painter().draw([e.caption for e in pool.entries], seeds=[e.seed for e in pool.entries])
    assert (again == pool.images).all()
    task = small_task()
    assert all(any(caption in entry.prompt for caption in task.captions) for entry in pool.entries)
    written = [row["caption"] for r in range(3) for row in read(finished, f"rounds/{r}/captions/captions.jsonl")]
    assert len(set(written)) == len(written) == 56 and not set(written) & set(task.captions)


def test_tuning_goes_on_from_the_last_round(finished: Path) -> None:
    """Round 2 starts from round 1's adapter: from the base model, its weights would be those of one step."""
    one, two = (
        json.loads((finished / f"rounds/{r}/dpo/adapter/weights.json").read_text()) for r in (1, 2)
    )
    pairs = [row for row in read(finished, "rounds/2/dpo/pairs.jsonl") if row["split"] == "train"]
    step = dict.fromkeys(one, 0.0)
    for pair in pairs:
        hard, easy = (set(pair[kind].split()) & set(one) for kind in ("hard", "easy"))
        for word in hard ^ easy:
            step[word] += (1 if word in hard else -1) / len(pairs)
    moved = [w for w in step if abs(step[w]) > 1e-9]
    rates = [(two[w] - one[w]) / step[w] for w in moved]
    assert moved and np.ptp(rates) < 1e-6 and 1.5 <= rates[0] <= 1.6


def test_add_grows_and_three_seeds_give_an_interval(tmp_path: Path) -> None:
    """Mode add end to end; and the mean with its 95 % interval over the detectors' seeds."""
    summary = run_fake(replace(QUICK, mode="add", seeds=3, max_hard_share=1.0), tmp_path / "run")
    r = summary["rounds"][1]
    assert r["pool_size"] == 12 + r["entered"] and 0 < r["entered"] <= 5
    figures = summary["arms"]["none"]["auroc"]
    assert len(figures["per_seed"]) == 3 and len(set(figures["per_seed"])) > 1 and figures["ci95"] > 0


def test_a_model_that_tuning_has_narrowed(tmp_path: Path) -> None:
    """After tuning it writes two captions again and again: the round is a small one, and the run goes on."""

    class Narrow(TunableFake):
        tuned = False

        def tune(self, pairs, validation, *, seed):
            self.tuned = True
            return super().tune(pairs, validation, seed=seed)

        def sample(self, prompts, n, *, seed):
            answers = super().sample(prompts, n, seed=seed)
            again = [caption_of("huge", color, "ten", "round", "black") for color in ("red", "blue")]
            return [[again[k % 2] for k in range(n)] for _ in answers] if self.tuned else answers

    config = replace(QUICK, quantile=0.5, pairs="pool")  # so short a training tells few pictures apart
    last = last_pool(config, tmp_path / "run", language_model=Narrow())[-1]
    assert last.facts.dpo is not None and last.facts.dpo.report is not None
    assert (last.facts.captions, last.facts.captions_asked) == (2, 8)
    assert len(last.pool) == 12


def test_a_model_that_cannot_be_tuned(tmp_path: Path) -> None:
    """A remote model: the round says that nothing was tuned, and samples on."""
    last = last_pool(QUICK, tmp_path / "run", language_model=FakeLanguageModel())[-1]
    assert last.facts.dpo == Tuning(why="this language model cannot be tuned; it samples on as it is")
    assert last.facts.generated == 8
    assert (tmp_path / "run/rounds/1/dpo/pairs.jsonl").is_file()


def test_steering_by_examples(tmp_path: Path) -> None:
    """Round 0 prompts with normals; round 1 with captions of the pool's hard anomalies, and tunes nothing."""
    config = replace(QUICK, steer="examples", min_preferred=0.5)
    first, second = last_pool(config, tmp_path / "run")
    judged = {entry.caption: entry.relative for entry in second.pool.entries if entry.round == 0}
    dearest = sorted(row["relative_distance"] for row in read(tmp_path / "run", "rounds/1/evaluator/scores.jsonl"))
    prompts = {entry.prompt for entry in second.fresh.entries}
    assert not prompts & {entry.prompt for entry in first.pool.entries}
    named = [caption for caption in judged if any(caption in prompt for prompt in prompts)]
    assert 1 <= len(named) <= len(prompts) and all(judged[caption] <= dearest[len(dearest) // 2] for caption in named)
    assert second.facts.dpo == Tuning(why="steer is examples")
    assert not (tmp_path / "run/rounds/1/dpo/adapter").exists()


@pytest.mark.parametrize("quantile", [1e-9, 1.0])
def test_nothing_hard_or_nothing_easy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantile: float) -> None:
    """Without both kinds there is nothing to prefer: the round tunes nothing, says so, and the run goes on."""
    import kka.algorithm.evaluator

    factor = 10.0 if quantile < 0.5 else 0.01
    original = kka.algorithm.evaluator.relative_distance
    monkeypatch.setattr(
        kka.algorithm.evaluator, "relative_distance", lambda a, n, q: factor * np.clip(original(a, n, q), 0.5, 2)
    )
    last = last_pool(replace(QUICK, rounds=2, pairs="pool", min_preferred=0.0), tmp_path / "run")[-1]
    assert last.facts.dpo is not None and last.facts.dpo.report is None
    assert "both hard and easy" in str(last.facts.dpo.why)
    assert last.facts.entered == 0 and last.facts.hard_share_fresh == (0 if factor == 10 else 1)
    closed = "none of its 8 pictures was hard" if factor == 10 else "12 of the pool's 12 pictures were hard already"
    assert str(last.facts.as_dict()["closed"]).startswith(closed)
    assert not (tmp_path / "run/rounds/2/dpo/adapter").exists()
    assert len(last.pool) == 12


def test_without_rounds(tmp_path: Path) -> None:
    """KKA (0) alone: nothing is judged, so no share is known; JSON holds null, not NaN."""
    summary = run_fake(replace(QUICK, rounds=0), tmp_path / "run")
    assert len(summary["rounds"]) == 1 and summary["rounds"][0]["hard_share_pool"] is None
    assert "NaN" not in (tmp_path / "run/summary.json").read_text()


def test_photos_without_a_test_set(tmp_path: Path) -> None:
    """A person's folder: no figures, but the detector is trained and kept."""
    from kka.detectors import load_detector

    summary = run_fake(QUICK, tmp_path / "run", task=lambda: small_task(test=False, knowledge=False))
    assert summary["arms"] == {} and summary["rounds"][1]["auroc"] is None
    assert summary["task"]["test_normals"] is None
    detector = load_detector(tmp_path / "run/arms/kka-1/seed-0/detector")
    assert detector.score(small_task().normals).shape == (24,)


def test_every_picture_black(tmp_path: Path) -> None:
    """A safety filter that refuses all: an error that says so, not a mean of nothing."""
    with pytest.raises(UserError, match=r"all 12 pictures .* set aside"):
        last_pool(QUICK, tmp_path / "run", image_model=BlackPainter())


def test_some_pictures_black(tmp_path: Path) -> None:
    """They are set aside, counted, and neither in the pool nor in the pairs."""

    class Moody(Painter):
        identity = "fake-moody"

        def draw(self, captions, *, seeds):
            images = super().draw(captions, seeds=seeds)
            images[["blue" in c for c in captions]] = 0
            return images

    made = last_pool(QUICK, tmp_path / "run", image_model=Moody())
    captions = read(tmp_path / "run", "rounds/0/captions/captions.jsonl")
    blue = sum("blue" in row["caption"] for row in captions)
    assert blue and made[0].facts.set_aside == blue and made[0].facts.generated == 12 - blue
    assert not any("blue" in entry.caption for entry in made[1].pool.entries)
    assert len(read(tmp_path / "run", "rounds/0/images/set_aside.jsonl")) == blue


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    """A second run with the same seeds finds every picture in the cache."""
    from kka.common.cache import ImageCache

    cache = ImageCache(tmp_path / "cache")
    for name, drawn in (("a", 12), ("b", 0)):
        last_pool(replace(QUICK, rounds=0), tmp_path / name, cache=cache)
        entry = json.loads((tmp_path / name / "rounds/0/images/stage.json").read_text())
        assert entry["drawn"] == drawn and entry["from_cache"] == 12 - drawn


def test_ignored_words_are_each_rounds_own(tmp_path: Path) -> None:
    """A running total per round would be summed again in the ledger, and would change with every resume."""

    class Counting(Painter):
        identity = "fake-counting"
        ignored_words = 0

        def draw(self, captions, *, seeds):
            self.ignored_words += len(captions)
            return super().draw(captions, seeds=seeds)

    last_pool(QUICK, tmp_path / "run", image_model=Counting())
    entries = [json.loads((tmp_path / f"run/rounds/{r}/images/stage.json").read_text()) for r in (0, 1)]
    assert [entry["ignored_words"] for entry in entries] == [12, 8]


def test_the_loops_seed_matters_and_the_prompt_can_be_changed(tmp_path: Path) -> None:
    """Another seed, other captions; `--prompt` with an own text arrives in the lineage."""
    a, b = (last_pool(replace(QUICK, rounds=0, seed=s), tmp_path / str(s))[0].pool for s in (0, 1))
    assert [e.caption for e in a.entries] != [e.caption for e in b.entries]
    own = last_pool(replace(QUICK, rounds=0, prompt="Not like {caption}!"), tmp_path / "own")[0].pool
    assert own.entries[0].prompt.startswith("Not like a large red flower")
    with pytest.raises(UserError, match="prompt template"):
        last_pool(replace(QUICK, rounds=0, prompt="no field"), tmp_path / "bad")


def test_any_character_of_a_caption_is_kept(tmp_path: Path) -> None:
    """U+2028 and U+0085 end a line for `splitlines`, and so ended a run whose captions hold them."""
    task = small_task()
    odd = tuple(f"{caption}\u2028seen\x85from \x1c above" for caption in task.captions)
    config = replace(QUICK, rounds=1, prompt="Not like \u2028 {caption}!")
    summary = run_fake(config, tmp_path / "run", task=lambda: replace(task, captions=odd))
    assert [r["generated"] for r in summary["rounds"]] == [12, 8]
    shown = RunFolder(tmp_path / "run").representatives()
    assert shown and all("\u2028" in row.prompt and "\x85" in row.caption for row in shown)


def test_controls_are_as_many_as_the_first_pool() -> None:
    """An arm with more anomalies would win by number. Fewer known pictures than that: all of them."""
    task = small_task()
    pools = [Anomalies(images=np.zeros((n, 16, 16, 3), np.uint8)) for n in (20, 26)]
    made = {name: given and given.images for name, get in arms(task, pools, seed=0).items() for given in [get()]}
    assert {k: None if v is None else len(v) for k, v in made.items()} == {
        "none": None, "noise": 20, "other": 20, "kka-0": 20, "kka-1": 26, "real": 20,
    }  # fmt: skip
    assert made["noise"] is not None and made["noise"].std() > 60 and len(np.unique(made["real"], axis=0)) == 20
    many = arms(task, [Anomalies(images=np.zeros((99, 16, 16, 3), np.uint8))], seed=0)["real"]()
    assert many is not None and len(many.images) == 30
    assert "real" not in arms(small_task(knowledge=False), pools, seed=0)


def test_detectors_get_what_they_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions of the normals, and of each pool which anomalies are hard: round 0's by round 1's evaluator.

    Flags in another order than the images, or those of the renewed pool for the first one, would weigh the wrong ones.
    """
    from kka.detectors import DETECTORS
    from kka.detectors.sad import SAD

    calls: list[tuple[int, tuple[str, ...], list[bool] | None]] = []

    class Curious(SAD):
        takes = frozenset({"captions", "hard"})

        def fit(self, normals, anomalies=None, *, captions=None, hard=None):
            count = 0 if anomalies is None else len(anomalies)
            calls.append((count, tuple(captions), None if hard is None else hard.tolist()))
            return super().fit(normals, anomalies)

    monkeypatch.setitem(DETECTORS, "curious", lambda **options: Curious(settings=QUICK.sad, **options))
    run_fake(replace(QUICK, detector="curious", quantile=0.5), tmp_path / "run")
    whole = small_task().captions
    of_arms = [call for call in calls if call[1] == whole]
    (kept,) = (captions for _, captions, _ in calls if captions != whole)  # a part of the normals is held out of it
    assert set(kept) < set(whole)
    none, noise, other, first, last, real = (hard for _, _, hard in of_arms)
    assert (none, noise, other, real) == (None,) * 4
    judged = {row["id"]: row["hard"] for row in read(tmp_path / "run", "rounds/1/evaluator/scores.jsonl")}
    drawn = AnomalyPool.load(tmp_path / "run/rounds/0/images/images.parquet")
    assert first == [judged[entry.id] for entry in drawn.entries] and len(set(first)) == 2
    assert last == AnomalyPool.load(tmp_path / "run/pool.parquet").hard.tolist()


def test_a_run_with_another_detector(tmp_path: Path) -> None:
    """Its preset and settings arrive, and what is kept can be loaded by its card."""
    from kka.config import DetectorOptions
    from kka.detectors.saving import read_card

    options = DetectorOptions(preset="cpu", set=("epochs=2", "milestones=", "precision=fp32"))
    run_fake(replace(QUICK, rounds=0, detector_options=options), tmp_path / "run")
    card = read_card(tmp_path / "run/arms/kka-0/seed-0/detector")
    assert card["settings"]["epochs"] == 2 and card["image_size"] == [16, 16] and "calibration" not in card
    with pytest.raises(UserError, match="unknown preset of sad"):
        run_fake(replace(QUICK, detector_options=DetectorOptions(preset="gpu")), tmp_path / "other")


def test_pairs_are_of_everything_that_was_judged(finished: Path) -> None:
    """Pictures that never entered the pool count as well, in their own round: else "hard" would mean "late"."""
    pool = {row["id"]: row["relative_distance"] for row in read(finished, "rounds/2/evaluator/scores.jsonl")}
    judged = {row["id"]: row["relative_distance"] for row in read(finished, "rounds/2/dpo/scores.jsonl")}
    made = [entry for r in (0, 1) for entry in RunFolder(finished).fresh(r).entries]
    assert list(judged) == [entry.id for entry in made] and len(judged) == 40 > len(pool)
    assert {name: judged[name] for name in pool} == pool
    of = {entry.caption: entry for entry in made}
    pairs = read(finished, "rounds/2/dpo/pairs.jsonl")
    for pair in pairs:
        hard, easy = of[pair["hard"]], of[pair["easy"]]
        assert (hard.round, hard.prompt) == (easy.round, easy.prompt) and hard.prompt == pair["prompt"]
        assert judged[easy.id] >= 1.25 * judged[hard.id]


@pytest.mark.parametrize(("choose", "mode"), [("nearest", "add"), ("band", "rep")])
def test_best_of_and_what_enters(
    tmp_path: Path, choose: Literal["nearest", "band"], mode: Literal["add", "rep"]
) -> None:
    """Three times as many are made, judged and counted; those of the order enter; a resumed run is the same."""
    config = replace(QUICK, best_of=3, choose=choose, mode=mode, max_hard_share=1.0, pairs="pool")
    last = last_pool(config, tmp_path / "run")[-1]
    assert (last.facts.captions_asked, last.facts.captions, last.facts.generated) == (24, 24, 24)
    assert len(read(tmp_path / "run", "rounds/1/scores/scores.jsonl")) == 24
    entered = {entry.id for entry in last.pool.entries if entry.round == 1}
    relative = {entry.id: entry.relative for entry in last.fresh.entries}
    dearest = {name for name, _ in sorted(relative.items(), key=lambda item: item[1])[:5]}
    if choose == "nearest":
        assert entered == dearest and len(last.pool) == 17
    else:
        inside = {name for name, r in relative.items() if 0.7 <= r <= 1.5}
        assert entered <= inside and (len(entered) == 5 or len(inside) < 15) and len(last.pool) == 12
        assert bool(last.facts.closed) != bool(entered)
    with Store(tmp_path / "run", config.as_dict(), resume=True) as store:
        again = list(rounds(small_task(), TunableFake(), Painter(), config=config, store=store))[-1]
    assert again.pool.entries == last.pool.entries and again.facts == last.facts


def test_a_drained_library_closes_the_round(tmp_path: Path) -> None:
    """Fourteen pictures, of which round 0 takes twelve: round 1 is small, round 2 closed, and the run ends well."""

    class Shelf(Painter):
        identity = "fake-shelf"
        keys = tuple(f"k{i:02d}" for i in range(14))

        def left(self, taken):
            return len(set(self.keys) - set(taken))

        def retrieve(self, captions, *, seeds, taken):
            free = [key for key in self.keys if key not in taken]
            assert len(free) >= len(captions)
            return free[: len(captions)]

        def fetch(self, keys):
            words = [caption_of("huge", "red", "ten", "round", wall) for wall in ("black", "pale")]
            return self.draw([words[int(key[1:]) % 2] for key in keys], seeds=[int(key[1:]) for key in keys])

    config = replace(QUICK, rounds=2, steer="none")
    made = last_pool(config, tmp_path / "run", image_model=Shelf())
    assert [r.facts.generated for r in made] == [12, 2, 0] and [r.facts.captions for r in made] == [12, 8, 8]
    assert made[0].facts.closed is None and made[2].facts.closed == "the image library is drained"
    assert made[2].facts.hard_share_fresh is None and len(made[2].pool) == 12


def test_a_folder_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """Without the newer settings in its configuration, nor counts of theirs: it compares its pool as it did."""
    import yaml

    from kka.algorithm.folder import up_to_date

    config = replace(QUICK, pairs="pool")
    old = {k: v for k, v in config.as_dict().items() if k not in ("pairs", "best_of", "choose")}
    with Store(tmp_path / "run", old) as store:
        first = list(rounds(small_task(), TunableFake(), Painter(), config=config, store=store))
    for marker in (tmp_path / "run").rglob("images/stage.json"):
        marker.write_text(json.dumps({k: v for k, v in json.loads(marker.read_text()).items() if k != "not_drawn"}))
    with Store(tmp_path / "run", config.as_dict(), resume=True, complete=up_to_date) as store:
        again = list(rounds(small_task(), TunableFake(), Painter(), config=config, store=store))
    assert again[1].facts == first[1].facts and again[1].pool.entries == first[1].pool.entries
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["pairs"] == "pool"
    judged = replace(config, pairs="judged").as_dict()
    with pytest.raises(UserError, match="pairs"), Store(tmp_path / "run", judged, resume=True, complete=up_to_date):
        pass
