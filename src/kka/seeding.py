"""Seeds: every stage draws its own from (run seed, stage, round, …), so that the order of work never matters."""

import hashlib


def derive_seed(seed: int, *path: str | int) -> int:
    """A 31-bit seed that depends on `seed` and `path` alone, the same on every machine and Python."""
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % (2**31 - 1)
