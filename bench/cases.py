"""What is measured. A case is one row of the table."""

from __future__ import annotations

from typing import Final

import msgspec

from bench.mock import BURST_TOKENS, PACED_TOKENS


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One load. prompt: KB of the user's message. seconds: after which no call begins. tokens: of a stream, 0 for a
    whole answer. group: for `--cases`. once: for slow peers, whose one round takes a minute."""

    name: str
    group: str
    callers: int
    model: str = "mock"
    tokens: int = 0
    ramp: float = 0.0
    seconds: float = 1.6
    prompt: int = 0
    once: bool = False

    @property
    def unit(self) -> str:
        """What CPU is given for."""
        return "event" if self.tokens else "call"


CASES: Final = (
    *(Case(name=f"unary, {n} callers", group=f"unary-{n}", callers=n) for n in (1, 32, 128)),
    *(
        Case(name=f"unary, prompt of {size:,} KB", group=f"prompt-{size}", callers=n, prompt=size)
        for size, n in ((1, 32), (100, 8), (1000, 4))
    ),
    *(
        Case(name=f"burst of {BURST_TOKENS}, {n} callers", group=f"burst-{n}", callers=n, tokens=BURST_TOKENS)
        for n in (1, 32)
    ),
    *(
        Case(
            name=f"paced 20 ms, {n} callers",
            group=f"paced-{n}",
            callers=n,
            model="mock-paced",
            tokens=PACED_TOKENS,
            ramp=1.0,
            seconds=4.0,
            once=n == 500,
        )
        for n in (100, 500)
    ),
)

WARM_UP: Final = (
    Case(name="warm-up", group="warm", callers=4, seconds=0.5),
    Case(name="warm-up, streams", group="warm-stream", callers=4, seconds=0.5, tokens=BURST_TOKENS),
)
