"""The one error meant for people: what was expected, what was got, what to do."""


class UserError(ValueError):
    """Something the user can put right. The command line prints its text without a traceback."""


def unknown(kind: str, got: str, known: object, *, also: str = "") -> UserError:
    """The error for a name that no registry holds; it lists the names that one does, and what else may stand there."""
    names = ", ".join(sorted(map(str, known))) + (f", or {also}" if also else "")  # type: ignore[call-overload]
    return UserError(f"unknown {kind}: expected one of {names}; got {got!r}")
