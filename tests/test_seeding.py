"""Seeds."""

from hypothesis import given
from hypothesis import strategies as st

from kka.seeding import derive_seed


def test_pinned() -> None:
    """Another hash or another joining would change every stored run: resuming one would mix two random streams."""
    import hashlib

    expected = int.from_bytes(hashlib.blake2b(b"0/captions/2", digest_size=8).digest(), "big") % (2**31 - 1)
    assert derive_seed(0, "captions", 2) == expected


@given(seed=st.integers(-5, 2**40), path=st.lists(st.one_of(st.integers(0, 99), st.text(max_size=5)), max_size=4))
def test_range(seed: int, path: list) -> None:
    """numpy, torch and the storage take 31-bit seeds."""
    assert 0 <= derive_seed(seed, *path) < 2**31
    assert derive_seed(seed, *path) == derive_seed(seed, *path)


def test_stages_and_rounds_differ() -> None:
    """Equal seeds in two stages would tie their random draws together."""
    made = {derive_seed(s, stage, r) for s in range(3) for stage in ("captions", "dpo", "pool") for r in range(20)}
    assert len(made) == 180
