"""The embedded garden as a source of tasks."""

from kka.task import Task


def load_garden(normal: str | None = None, unseen: float = 0.0, seed: int = 0) -> Task:
    """The garden's task of one normal kind; see `kka.garden.tasks.build_task`."""
    from kka.garden.tasks import build_task

    return build_task(normal, unseen, seed)
