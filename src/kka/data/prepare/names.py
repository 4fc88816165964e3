"""Class names as a caption says them: "oak_tree" is "an oak tree"."""

_SINGULAR_ENDINGS = ("ss", "us", "is", "'s")
_SOUNDED_AS_CONSONANT = ("eu", "uni", "use", "one", "ut")


def with_article(name: str) -> str:
    """The name with "a" or "an"; a plural ("buildings") without."""
    words = " ".join(name.replace("_", " ").split())
    if words.endswith("s") and not words.endswith(_SINGULAR_ENDINGS):
        return words
    vowel = words[:1].lower() in set("aeiou") and not words.lower().startswith(_SOUNDED_AS_CONSONANT)
    return f"{'an' if vowel else 'a'} {words}"
