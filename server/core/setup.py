"""The one error for whoever runs the gateway: it cannot start, or a command cannot work, as things are set up."""

from __future__ import annotations


class SetupError(Exception):
    """Not for callers: it ends a command with one clear line.

    message: what is wrong. mend: what to do about it. Neither ever holds a secret.
    """

    def __init__(self, message: str, *, mend: str) -> None:
        super().__init__(f"{message} {mend}".rstrip())
        self.message = message
        self.mend = mend
