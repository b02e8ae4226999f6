"""What is publicly known of models: facts as data, looked up by id. An unknown model is allowed and passes everything."""

from __future__ import annotations

from typing import Literal

import msgspec

Capability = Literal[
    "streaming",
    "tools",
    "vision",
    "documents",
    "audio_input",
    "json_object",
    "json_schema",
    "reasoning",
    "web_search",
    "code_execution",
    "prompt_caching",
    "embeddings",
]


class ThinkingTraits(msgspec.Struct, frozen=True, kw_only=True):
    """How a model thinks. default_on: without being asked; can_disable: whether it can be told not to.

    efforts: the levels it takes, in order, () for none. budget: whether it takes a token budget, with its bounds;
    adaptive: whether it takes "decide yourself".
    """

    default_on: bool = False
    can_disable: bool = True
    efforts: tuple[str, ...] = ()
    budget: bool = False
    min_budget: int = 0
    max_budget: int | None = None
    adaptive: bool = False


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the catalogue.

    id: `provider/model`. model: the provider's own name. aliases: other names that the provider takes for it.
    context_tokens, output_tokens: the limits, None where unpublished. rejects: request fields (proto names, e.g.
    `temperature`) that the model answers with an error; rejects_while_thinking: the same while it thinks. thinking: None
    for a model that does not. as_of: ISO date on which the facts were taken; source: public page or SDK they are from.
    """

    id: str
    name: str
    provider: str
    model: str
    kind: Literal["chat", "embedding"] = "chat"
    aliases: tuple[str, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    context_tokens: int | None = None
    output_tokens: int | None = None
    rejects: tuple[str, ...] = ()
    rejects_while_thinking: tuple[str, ...] = ()
    thinking: ThinkingTraits | None = None
    as_of: str = ""
    source: str = ""
