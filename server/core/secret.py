"""A string that must not leak: it masks itself wherever it is printed."""

from __future__ import annotations


class Secret:
    """A credential in clear. Only `reveal` gives it out; repr, str, format and equality do not.

    Keep one no longer than the call that needs it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The clear value: for a provider's request and for the cipher, nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("A Secret is not serialised.")


def mask(value: str) -> str:
    """What may be shown of a stored credential: the last four characters, and nothing of a value shorter than 12."""
    return "****" + value[-4:] if len(value) >= 12 else "****"
