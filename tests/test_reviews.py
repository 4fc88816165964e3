"""What a person says of pictures counts: vetoes, harder and easier, choices between two; in the rounds after it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes import FAST, outcome, run_fake
from kka.algorithm.folder import RunFolder
from kka.algorithm.pool import AnomalyPool, Lineage
from kka.algorithm.reviews import REVIEWS, Choice, Decision, Reviews, append, read_reviews
from kka.algorithm.told import pairs_told, put_first
from kka.common.ledger import Entry, Ledger
from kka.deploy.anomalies import read_anomalies
from kka.errors import UserError
from kka.exchange.source import read_run
from kka.protocols import PreferencePair
from kka.report.people import review_notes


def entry(name: str, caption: str, relative: float, prompt: str = "p", number: int = 0) -> Lineage:
    return Lineage(
        id=name, round=number, prompt=prompt, caption=caption, seed=0, language_model="l", image_model="i", key=name,
        history=((1, relative),),
    )  # fmt: skip


def test_decisions_are_lines(tmp_path: Path) -> None:
    """Each is on disk when it is made; the last word counts; half a line of a killed process costs that line alone."""
    append(tmp_path, Decision(id="r0-1", verdict="veto", reason="nonsense"))
    append(tmp_path, Decision(id="r0-2", verdict="harder"))
    append(tmp_path, Decision(id="r0-1", verdict="keep"))
    append(tmp_path, Choice(harder="r0-1", easier="r0-2"))
    append(tmp_path, Choice(harder="r0-2", easier="r0-1"))
    with (tmp_path / REVIEWS).open("a") as file:
        file.write('{"id": "r0-3", "ver')
    append(tmp_path, Decision(id="r0-4", verdict="easier"))
    append(tmp_path, Decision(id="r0-2", verdict="none"))
    with pytest.warns(UserWarning, match=r"line 6: no review"):
        found = read_reviews(tmp_path / REVIEWS)
    assert {name: said.verdict for name, said in found.decisions.items()} == {"r0-1": "keep", "r0-4": "easier"}
    assert [(choice.harder, choice.easier) for choice in found.choices] == [("r0-2", "r0-1")]
    assert all(said.at.endswith("+00:00") for said in found.decisions.values()) and not found.vetoed
    assert not read_reviews(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "said",
    [{"verdict": "veto"}, {"verdict": "veto", "reason": "ugly"}, {"verdict": "keep", "reason": "nonsense"},
     {"verdict": "no"}],
)  # fmt: skip
def test_what_no_decision_is(said: dict[str, str]) -> None:
    """A veto says why, and nothing else does."""
    with pytest.raises(UserError, match="review: expected"):
        Decision(id="x", **said)
    with pytest.raises(UserError, match="expected two pictures"):
        Choice(harder="a", easier="a")


def test_vetoed_leave_with_their_copies() -> None:
    """A library's picture under another name is the same picture."""
    entries = (entry("a", "1", 0.5), replace(entry("b", "2", 0.5), key="a"), entry("c", "3", 2.0))
    pool = AnomalyPool(entries, np.zeros((3, 4, 4, 3), np.uint8))
    said = Reviews({"a": Decision(id="a", verdict="veto", reason="nonsense")})
    assert [left.id for left in said.without_vetoed(pool).entries] == ["c"]
    assert Reviews().without_vetoed(pool) is pool


def test_pairs_of_eq_7() -> None:
    """Choices within a prompt; a harder one over the farthest third, the nearest third over an easier one; the
    vetoed say nothing; of two that contradict each other the first counts."""
    near, middle, far = entry("n", "near", 0.5), entry("m", "middle", 1.5), entry("f", "far", 4.0)
    other = entry("o", "other", 1.0, prompt="q")
    everything = [near, middle, far, other]

    def told(reviews: Reviews) -> list[tuple[str, str]]:
        return [(pair.hard, pair.easy) for pair in pairs_told(everything, reviews)]

    def said(name: str, verdict: str, reason: str | None = None) -> Reviews:
        return Reviews({name: Decision(id=name, verdict=verdict, reason=reason)})

    assert told(said("m", "harder")) == [("middle", "far")]
    assert told(said("m", "easier")) == [("near", "middle")]
    assert told(said("f", "harder")) == [], "nothing is left that is farther"
    assert told(said("m", "keep")) == told(said("m", "veto", "nonsense")) == []
    assert told(Reviews({}, (Choice(harder="f", easier="n"), Choice(harder="f", easier="o")))) == [("far", "near")]
    assert told(Reviews(said("f", "veto", "nonsense").decisions, (Choice(harder="f", easier="n"),))) == []
    both = Reviews(said("m", "harder").decisions, (Choice(harder="f", easier="m"),))
    assert told(both) == [("far", "middle")]


def test_people_come_first() -> None:
    """A pair of the machine's that says the reverse is out, and no text of a told pair validates."""
    pair = lambda hard, easy: PreferencePair(prompt="p", hard=hard, easy=easy)  # noqa: E731
    own = ([pair("b", "a"), pair("a", "b"), pair("c", "d")], [pair("a", "e"), pair("g", "h")])
    assert put_first([pair("a", "b")], own) == ([pair("a", "b"), pair("c", "d")], [pair("g", "h")])
    assert put_first([], own) is own


@pytest.fixture(scope="module")
def reviewed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that a person looked through, and that went on for two more rounds."""
    folder = tmp_path_factory.mktemp("reviewed") / "run"
    shutil.copytree(finished, folder)
    pool = AnomalyPool.load(folder / "pool.parquet")
    for number, one in enumerate(pool.entries[:4]):
        reason = "looks normal" if number < 3 else "nonsense"
        append(folder, Decision(id=one.id, verdict="veto", reason=reason))
    fresh = RunFolder(folder).fresh(0).entries
    vetoed = {one.id for one in pool.entries[:4]}
    usable = [one for one in fresh if one.id not in vetoed]
    a, b = next((x, y) for x in usable for y in usable if x.prompt == y.prompt and x.caption != y.caption)
    append(folder, Choice(harder=a.id, easier=b.id))
    (marked,) = [one for one in usable if one.id not in (a.id, b.id)][:1]
    append(folder, Decision(id=marked.id, verdict="harder"))
    run_fake(replace(FAST, rounds=4), folder, resume=True, report=True)
    return folder


def test_more_rounds_with_the_reviews_in_them(reviewed: Path, finished: Path) -> None:
    """A finished run goes on; the vetoed are in no later pool and taught no later evaluator; rounds before stay."""
    run = RunFolder(reviewed)
    vetoed = read_reviews(reviewed / REVIEWS).vetoed
    assert run.last_round == 4 and len(vetoed) == 4
    for number in (3, 4):
        assert not vetoed & {one.id for one in run.pool(number).entries}
        lines = run.file(number, "evaluator", "scores.jsonl").read_text().splitlines()
        judged = [json.loads(line)["id"] for line in lines]
        assert judged and not vetoed & set(judged), "the evaluator trains with what it judges"
    assert vetoed <= {one.id for one in run.pool(2).entries}
    before, after = outcome(finished), outcome(reviewed)
    assert all(after[name] == content for name, content in before.items() if name.startswith(("rounds/", "arms/")))


def test_the_first_pairs_are_theirs(reviewed: Path) -> None:
    """In the tuning of the round after the review, marked as theirs, before the machine's own."""
    rows = [json.loads(line) for line in (reviewed / "rounds/3/dpo/pairs.jsonl").read_text().splitlines()]
    told = [row.get("told", False) for row in rows if row["split"] == "train"]
    assert told[0] and told == sorted(told, reverse=True)
    choice = read_reviews(reviewed / REVIEWS).choices[0]
    known = {one.id: one.caption for one in RunFolder(reviewed).fresh(0).entries}
    assert (rows[0]["hard"], rows[0]["easy"]) == (known[choice.harder], known[choice.easier])


def test_the_report_says_what_people_changed(reviewed: Path) -> None:
    """Whoever reads the figures must know that a person had a hand in them."""
    page = " ".join((reviewed / "report.html").read_text(encoding="utf-8").split())
    assert "What people changed" in page
    assert "Round 3 began with what people said of the pictures before it" in page
    assert "4 vetoed (3 looks normal, 1 nonsense)" in page
    assert "1 harder than judged" in page and "1 choices between two" in page and "4 pictures left the pool" in page
    assert review_notes(Ledger({"rounds/1/pool": Entry(seconds=0.0, peak_mb=0.0, counts={})}), 3) == []


def test_a_round_ends_as_it_began(reviewed: Path, tmp_path: Path) -> None:
    """What is said while a round runs, or after it, changes nothing of it: a killed run goes the same way."""
    folder = tmp_path / "run"
    shutil.copytree(reviewed, folder)
    shutil.rmtree(folder / "rounds/4/pool")
    shutil.rmtree(folder / "arms/kka-4")
    kept = AnomalyPool.load(folder / "pool.parquet").entries[-1].id
    append(folder, Decision(id=kept, verdict="veto", reason="nonsense"))
    run_fake(replace(FAST, rounds=4), folder, resume=True)
    mine, theirs = outcome(folder), outcome(reviewed)
    ours = {name for name in theirs if name not in (REVIEWS, "report.html")}
    assert all(mine[name] == theirs[name] for name in ours)


def test_vetoed_pictures_go_nowhere_else(reviewed: Path, finished: Path, tmp_path: Path) -> None:
    """Not into `kka train`, nor into an export, before any further round."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    pool = AnomalyPool.load(folder / "pool.parquet")
    append(folder, Decision(id=pool.entries[0].id, verdict="veto", reason="looks normal"))
    assert len(read_anomalies(folder, 16).images) == len(read_run(folder).pool) == len(pool) - 1


def test_all_vetoed(finished: Path, tmp_path: Path) -> None:
    """No evaluator can be trained on nothing; the round has not begun then, and vetoes can be taken back."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    pool = AnomalyPool.load(folder / "pool.parquet")
    for one in pool.entries:
        append(folder, Decision(id=one.id, verdict="veto", reason="nonsense"))
    with pytest.raises(UserError, match=r"at least 2 of the pool's 24 pictures to stay; got 0"):
        run_fake(replace(FAST, rounds=3), folder, resume=True)
    assert not (folder / "rounds/3").exists() or not (folder / "rounds/3/reviews").exists()
