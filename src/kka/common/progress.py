"""How long things take, told while they run."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total); `kka.common.labels.STAGES` says what a stage does."""
