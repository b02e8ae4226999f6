"""What Converse leaves to each maker's models: the words for additionalModelRequestFields, by the maker's name, which
stands in every model id (`us.anthropic.claude-...`) and in the ARNs of foundation models and system profiles."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from server.core.ports import ProviderCall

Dialect = Literal["claude", "nova", "effort"]
"""How to say how much to think: Anthropic's `thinking` beside an effort, Nova's `reasoningConfig`, or OpenAI's
`reasoning_effort`."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One maker's models.

    top_k: path of keys below additionalModelRequestFields, () where the maker documents none. thinking: None where
    none is documented. tool_status: whether a tool result's status is taken (service model, ToolResultBlock).
    sends_thoughts_back: whether thoughts of earlier answers may come back.
    """

    name: str
    top_k: tuple[str, ...] = ()
    thinking: Dialect | None = None
    tool_status: bool = False
    sends_thoughts_back: bool = True


UNKNOWN: Final = Family(name="", top_k=("top_k",), thinking="claude", tool_status=True)
"""Behind an ARN that does not say whose model it is. It is told things as Claude is: the largest family, and what
Converse's own examples use."""

OTHER: Final = Family(name="other")
"""Makers that document nothing beyond inferenceConfig for Converse."""

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {
        family.name: family
        for family in (
            # docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html
            Family(name="anthropic", top_k=("top_k",), thinking="claude", tool_status=True),
            # docs.aws.amazon.com/nova/latest/userguide/using-converse-api.html, nova2-userguide/extended-thinking.html
            Family(name="amazon", top_k=("inferenceConfig", "topK"), thinking="nova", tool_status=True),
            # .../userguide/model-parameters-mistral-chat-completion.html, model-parameters-cohere-command-r-plus.html
            Family(name="mistral", top_k=("top_k",)),
            Family(name="cohere", top_k=("k",)),
            # reasoning_effort: langchain-ai/docs#5239 (gpt-oss, Kimi K2), langchain-ai/langchain-aws#1261 (DeepSeek).
            Family(name="openai", thinking="effort"),
            Family(name="moonshot", thinking="effort"),
            Family(name="moonshotai", thinking="effort"),
            # R1 refuses thoughts in a history (strands-agents/harness-sdk#651).
            Family(name="deepseek", thinking="effort", sends_thoughts_back=False),
        )
    }
)

_OTHER_MAKERS: Final = frozenset({"meta", "ai21", "qwen", "minimax", "nvidia", "google", "writer", "zai", "stability"})


def family_of(call: ProviderCall) -> Family:
    """The family of the model that is called."""
    name = call.info.model if call.info is not None else call.model
    labels = name.rpartition("/")[2].split(".")[:-1]
    for label in labels:
        if label in FAMILIES:
            return FAMILIES[label]
        if label in _OTHER_MAKERS:
            return OTHER
    return UNKNOWN if call.info is None else OTHER
