"""What the files of a sample are called where every sample's are to be called the same."""

from collections.abc import Sequence

UNIFIED = "jpg"
"""What images are called where all are to be called the same: readers go by content."""


def unified_extensions(extensions: Sequence[str], image: str | None) -> list[str]:
    """Give the extensions of a sample's components as all samples are to have them.

    The image becomes a ``jpg`` whatever it is, all others are in lower case. What would
    then have the extension of another component gets a number before its own, which is no
    other file's: no two files of a sample have one name.

    Args:
        extensions: Of a sample's components, in their order.
        image: That of its image, as written; None if it has none.
    """
    named = [UNIFIED if one == image else one.lower() for one in extensions]
    taken = {UNIFIED} if image in extensions else set()
    given = []
    for old, name in zip(extensions, named, strict=True):
        new, number = name, 1
        while new in taken and old != image:
            number += 1
            new = f"{number}.{name}"
        taken.add(new)
        given.append(new)
    return given
