"""What held-out normals promise at a threshold: of n + 1 normals, each in turn is the new one."""

from collections.abc import Sequence
from fractions import Fraction


def promised_rate(held_out: Sequence[float], threshold: float) -> Fraction:
    """The chance that a new normal scores above the threshold, at most.

    Of n held-out normals c score at or below the threshold. So the threshold is at least the c-th smallest of them. If
    the new normal is one of n + 1 that were drawn alike, each of them is as likely as any other to be the new one: for
    each, the c-th smallest of the others is found, and whether the new one exceeds it is counted. The n + 1 scores
    stand for any that are all different, as only their order matters.
    """
    c = sum(score <= threshold for score in held_out)
    n = len(held_out)
    if c == 0:
        return Fraction(1)
    above = 0
    for new in range(n + 1):
        others = sorted(rank for rank in range(n + 1) if rank != new)
        above += new > others[c - 1]
    return Fraction(above, n + 1)
