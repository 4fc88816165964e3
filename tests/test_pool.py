"""Eq. 8."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kka.algorithm.pool import AnomalyPool, Lineage


def pool(hard: int, easy: int, *, round_number: int = 0, size: tuple[int, int] = (4, 5)) -> AnomalyPool:
    """Judged images, the hard ones first; every image is unlike the others."""
    n = hard + easy
    entries = tuple(
        Lineage(
            id=f"r{round_number}-{i:05d}",
            round=round_number,
            prompt="Describe „eine Blüte“\n",
            caption=f"flower {i}",
            seed=2**31 - 2 - i,
            language_model="hf:x",
            image_model="garden/1",
            key=f"{round_number}{i:04x}",
            history=((round_number + 1, 0.5 if i < hard else 1.5),),
        )
        for i in range(n)
    )
    images = np.random.default_rng(round_number).integers(0, 256, (n, *size, 3), dtype=np.uint8)
    return AnomalyPool(entries, images)


def ids(of: AnomalyPool) -> list[str]:
    return [entry.id for entry in of.entries]


def test_add_counts_of_the_paper() -> None:
    """Oxford-102 and UCM: 200 images and twice 59 hard ones make 318."""
    grown = pool(20, 180)
    for r in (1, 2):
        grown = grown.with_added(pool(100, 100, round_number=r), 59, max_hard_share=1.0, seed=r)
    assert len(grown) == len(grown.images) == 318
    assert ids(grown)[:200] == ids(pool(20, 180))
    assert sum(entry.round == 1 for entry in grown.entries) == 59


def test_rep_counts_of_the_paper() -> None:
    """The number stays 200: hard ones take the place of easy ones, never of hard ones."""
    start = pool(20, 180)
    after = start.with_replaced(pool(100, 100, round_number=1), 59, max_hard_share=1.0, seed=1)
    assert len(after) == 200 and int(after.hard.sum()) == 79
    assert set(ids(start)[:20]) <= set(ids(after))
    assert sum(entry.round == 1 for entry in after.entries) == 59


@pytest.mark.parametrize("later", [0, 15, 18, 20])
def test_random_ones_enter_whatever_rounds_the_pool_is_of(later: int) -> None:
    """After many rounds that replace the pool is all of later rounds: easy ones still give way to hard ones."""
    parts = [pool(0, n, round_number=r) for r, n in ((0, 20 - later), (1, later)) if n]
    start = AnomalyPool(
        tuple(entry for part in parts for entry in part.entries), np.concatenate([part.images for part in parts])
    )
    after = start.with_replaced(pool(10, 0, round_number=2), 6, max_hard_share=1.0, seed=0)
    assert len(after) == 20 and sum(entry.round == 2 for entry in after.entries) == 6


@pytest.mark.parametrize("way", ["with_added", "with_replaced"])
def test_only_hard_ones_enter_and_they_are_random(way: str) -> None:
    """The closest may be normals in truth; and another seed chooses others."""
    start, fresh = pool(0, 50), pool(30, 30, round_number=1)
    chosen = []
    for seed in (1, 1, 2):
        after = getattr(start, way)(fresh, 10, max_hard_share=1.0, seed=seed)
        entered = [entry for entry in after.entries if entry.round == 1]
        assert len(entered) == 10 and all(entry.relative < 1 for entry in entered)
        chosen.append(ids(after))
    assert chosen[0] == chosen[1] != chosen[2]


@settings(max_examples=150, deadline=None)
@given(
    hard=st.integers(0, 12), easy=st.integers(0, 12), fresh_hard=st.integers(0, 12), fresh_easy=st.integers(0, 4),
    limit=st.integers(0, 15), share=st.floats(0.01, 0.99) | st.just(1.0), seed=st.integers(0, 9), add=st.booleans(),
)  # fmt: skip
def test_the_share_of_hard_ones_is_bounded(
    hard: int, easy: int, fresh_hard: int, fresh_easy: int, limit: int, share: float, seed: int, add: bool
) -> None:
    """A pool that is mostly hard hurts: entering never lifts the share above the bound; images follow their lineage."""
    start, fresh = pool(hard, easy), pool(fresh_hard, fresh_easy, round_number=1)
    way = start.with_added if add else start.with_replaced
    after = way(fresh, limit, max_hard_share=share, seed=seed)
    entered = sum(entry.round == 1 for entry in after.entries)
    assert entered <= min(limit, fresh_hard)
    assert len(after) == len(start) + (entered if add else 0)
    assert int(after.hard.sum()) == hard + entered
    if entered:
        assert after.hard.mean() <= share + 1e-9
    # as many as the bound lets in: one more would break it
    if entered < min(limit, fresh_hard) and (add or entered < easy):
        assert hard + entered + 1 > share * (len(after) + add) + 1e-9
    picture = {e.id: x for p in (start, fresh) for e, x in zip(p.entries, p.images, strict=True)}
    assert all((picture[e.id] == x).all() for e, x in zip(after.entries, after.images, strict=True))


@pytest.mark.parametrize("way", ["with_added", "with_replaced"])
@pytest.mark.parametrize(("fresh_hard", "fresh_easy"), [(0, 0), (0, 7)])
def test_nothing_hard_changes_nothing(way: str, fresh_hard: int, fresh_easy: int) -> None:
    """Also when a round made no picture at all."""
    start = pool(3, 4)
    after = getattr(start, way)(pool(fresh_hard, fresh_easy, round_number=1), 5, max_hard_share=0.9, seed=0)
    assert after.entries == start.entries and (after.images == start.images).all()


@settings(max_examples=150, deadline=None)
@given(
    hard=st.integers(0, 8), easy=st.integers(0, 8), before=st.integers(0, 6), fresh_hard=st.integers(0, 8),
    fresh_easy=st.integers(0, 8), limit=st.integers(0, 12), share=st.floats(0.01, 1.0), seed=st.integers(0, 9),
    add=st.booleans(),
)  # fmt: skip
def test_an_order_fills_no_more_than_half(
    hard: int, easy: int, before: int, fresh_hard: int, fresh_easy: int, limit: int, share: float, seed: int, add: bool
) -> None:
    """With an order easy ones enter too: the pool stays half generic, the bound on hard ones holds, the first enter."""
    generic, earlier = pool(hard, easy), pool(0, min(before, hard + easy), round_number=1)
    start = AnomalyPool(generic.entries + earlier.entries, np.concatenate([generic.images, earlier.images]))
    fresh = pool(fresh_hard, fresh_easy, round_number=2)
    order = np.random.default_rng(seed).permutation(len(fresh)).tolist()
    way = start.with_added if add else start.with_replaced
    after = way(fresh, limit, max_hard_share=share, seed=seed, order=order)
    entered = [entry.id for entry in after.entries if entry.round == 2]
    assert entered == sorted(entered) and len(entered) <= limit
    assert len(after) == len(start) + (len(entered) if add else 0)
    assert set(ids(earlier)) <= set(ids(after)) and {e.id for e in generic.entries if e.relative < 1} <= set(ids(after))
    if entered:
        assert sum(entry.round > 0 for entry in after.entries) <= 0.5 * len(after) + 1e-9
    if not fresh_hard or share == 1:  # nothing is passed over: the first in the order enter
        assert entered == sorted(fresh.entries[i].id for i in order[: len(entered)])
    if any(fresh.entries[i].relative < 1 for i in order if fresh.entries[i].id in entered):
        assert after.hard.mean() <= share + 1e-9


def test_history_grows_and_the_last_judgement_counts() -> None:
    """Lineage is kept over rounds: what was hard may become easy."""
    once = pool(2, 1)
    twice = once.judged(2, [1.25, 0.75, 0.5])
    assert [e.history for e in twice.entries] == [((1, 0.5), (2, 1.25)), ((1, 0.5), (2, 0.75)), ((1, 1.5), (2, 0.5))]
    assert twice.hard.tolist() == [False, True, True] and once.hard.tolist() == [True, True, False]
    assert [replace(e, history=()) for e in twice.entries] == [replace(e, history=()) for e in once.entries]
    with pytest.raises(ValueError):
        once.judged(2, [1.0])


def test_unjudged_is_easy() -> None:
    """Round 0 is first judged in round 1; until then nothing may count as hard."""
    entries = tuple(replace(e, history=()) for e in pool(2, 0).entries)
    assert AnomalyPool(entries, pool(2, 0).images).hard.tolist() == [False, False]


@pytest.mark.parametrize("hard", [0, 3])
def test_parquet_round_trip(tmp_path: Path, hard: int) -> None:
    """Pixels, lineage and history to the bit, equal files for equal pools; an empty pool keeps its image size."""
    stored = pool(hard, 0).judged(2, [1 / 3] * hard) if hard else pool(0, 0, size=(6, 7))
    stored.save(tmp_path / "a.parquet")
    loaded = AnomalyPool.load(tmp_path / "a.parquet")
    assert loaded.entries == stored.entries
    assert loaded.images.shape == stored.images.shape and (loaded.images == stored.images).all()
    loaded.save(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_others_can_open_it(tmp_path: Path) -> None:
    """The `datasets` library decodes the column as pictures; without it, its bytes are PNG files."""
    import datasets
    import pyarrow.parquet as pq

    stored = pool(2, 1)
    stored.save(tmp_path / "pool.parquet")
    rows = pq.read_table(tmp_path / "pool.parquet").to_pylist()
    assert rows[1]["image"]["bytes"].startswith(b"\x89PNG")
    assert (np.asarray(Image.open(io.BytesIO(rows[1]["image"]["bytes"]))) == stored.images[1]).all()
    schema = pq.read_schema(tmp_path / "pool.parquet")
    features = datasets.Features.from_arrow_schema(schema)
    assert features["image"] == datasets.Image()
    decoded = features.decode_example(rows[2])
    assert (np.asarray(decoded["image"]) == stored.images[2]).all() and decoded["caption"] == "flower 2"
