"""What is publicly known of models: facts as data, looked up by id. An unknown model is allowed and passes everything.

The facts stand in one JSON file a provider (`server/data/models/`); `parse_catalog` checks and indexes their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import Literal, get_args

import msgspec

from server.core.messages import ChatRequest

ModelKind = Literal["chat", "embedding"]

Effort = Literal["none", "default", "minimal", "low", "medium", "high", "xhigh", "max"]
"""From least to most; `default` is what some models take for "on"."""

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
    """How a model thinks.

    default_on: without being asked; can_disable: whether it can be told not to. efforts: the levels it takes, from
    least to most, () for none; `none` is among them where that word turns it off. budget: whether it takes a token
    budget, with its bounds; adaptive: whether it takes "decide yourself".
    """

    default_on: bool = False
    can_disable: bool = True
    efforts: tuple[Effort, ...] = ()
    budget: bool = False
    min_budget: int = 0
    max_budget: int | None = None
    adaptive: bool = False


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the catalogue.

    id: `provider/model`. model: the provider's own name. aliases: other names that the provider takes for it.
    context_tokens, output_tokens: the limits, None where unpublished. rejects: request fields (proto names, e.g.
    `temperature`) that the model answers with an error, or ignores in silence; rejects_while_thinking: the same while
    it thinks. thinking: None for a model that does not. forced_tool_choice: whether it can be told that it must call a
    tool (`required`, or one by name). hosts: the host names that serve it, for a server without a slug of its own (a
    row of `custom` is no fact about every custom endpoint); () for all of the provider's. as_of: ISO date for which the
    source is known to say so; source: public page or SDK that the facts are from.
    """

    id: str
    name: str
    provider: str
    model: str
    kind: ModelKind = "chat"
    aliases: tuple[str, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    context_tokens: int | None = None
    output_tokens: int | None = None
    rejects: tuple[str, ...] = ()
    rejects_while_thinking: tuple[str, ...] = ()
    thinking: ThinkingTraits | None = None
    forced_tool_choice: bool = True
    hosts: tuple[str, ...] = ()
    as_of: str = ""
    source: str = ""


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model as its file has it: a ModelInfo less what follows from the file. The facts' date and source are due."""

    model: str
    name: str
    kind: ModelKind = "chat"
    aliases: tuple[str, ...] = ()
    capabilities: tuple[Capability, ...]
    context_tokens: int | None
    output_tokens: int | None
    rejects: tuple[str, ...] = ()
    rejects_while_thinking: tuple[str, ...] = ()
    thinking: ThinkingTraits | None = None
    forced_tool_choice: bool = True
    hosts: tuple[str, ...] = ()
    as_of: date
    source: str

    def info(self, provider: str) -> ModelInfo:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return ModelInfo(**{**fields, "id": f"{provider}/{self.model}", "provider": provider, "as_of": str(self.as_of)})


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file. prefixes: what may stand before every model name without changing the model (`us.`, `models/`)."""

    provider: str
    name: str
    prefixes: tuple[str, ...] = ()
    models: tuple[_Row, ...]


class Catalog:
    """All known models, indexed. Immutable; every look-up is a dict access, `near` alone searches.

    The provider part of an id is taken in any case, the model part exactly: providers tell case apart.
    """

    def __init__(self, models: Iterable[ModelInfo], *, providers: dict[str, tuple[str, ...]]) -> None:
        """providers: every slug, with the prefixes that its model names may carry.

        Raises ValueError when two models of a provider share a name.
        """
        self.providers = MappingProxyType(providers)
        """Every known slug, with the prefixes that its model names may carry."""
        self._by_name: dict[tuple[str, str], ModelInfo] = {}
        self._rows: dict[str, tuple[ModelInfo, ...]] = dict.fromkeys(providers, ())
        named: dict[str, list[ModelInfo]] = {}
        for info in sorted(models, key=lambda info: info.id):
            for name in (info.model, *info.aliases):
                if self._by_name.setdefault((info.provider, name), info) is not info:
                    raise ValueError(f"{info.provider}: two models are called {name!r}")
                named.setdefault(name, []).append(info)
            self._rows[info.provider] += (info,)
        self._named = {name: tuple(infos) for name, infos in named.items()}

    def __iter__(self) -> Iterator[ModelInfo]:
        """Sorted by provider, then id."""
        return (info for slug in sorted(self._rows) for info in self._rows[slug])

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def get(self, id: str) -> ModelInfo | None:
        """By id, `provider/model`; the model part may be an alias."""
        provider, _, model = id.partition("/")
        return self.find(provider.lower(), model)

    def find(self, provider: str, model: str) -> ModelInfo | None:
        """By slug and the provider's own name, an alias, or either behind one of the provider's prefixes."""
        info = self._by_name.get((provider, model))
        if info is None:
            for prefix in self.providers.get(provider, ()):
                if model.startswith(prefix):
                    return self._by_name.get((provider, model[len(prefix) :]))
        return info

    def named(self, name: str) -> tuple[ModelInfo, ...]:
        """Every provider's model of this bare name, alias or prefixed name, sorted by id."""
        found = self._named.get(name)
        if found is None:
            return tuple(info for slug in sorted(self.providers) if (info := self.find(slug, name)))
        return found

    def of(self, provider: str) -> tuple[ModelInfo, ...]:
        """A provider's models, sorted by id."""
        return self._rows.get(provider, ())

    def near(self, name: str, n: int = 3) -> tuple[str, ...]:
        """Ids of at most `n` models whose names are near, nearest first."""
        return near(name, self, n)


def near(name: str, models: Iterable[ModelInfo], n: int = 3) -> tuple[str, ...]:
    """Ids of at most `n` of `models` whose id, own name or alias is near `name` in any case, nearest first.

    For error messages: about a millisecond a hundred models. Only the first 100 characters of `name` count.
    """
    wanted = name[:100].strip().lower()
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    scores: dict[str, float] = {}
    for info in models:
        best = max(_likeness(matcher, wanted, key.lower()) for key in {info.id, info.model, *info.aliases})
        if best >= _NEAR:
            scores[info.id] = best
    return tuple(sorted(scores, key=lambda id: (-scores[id], id))[:n])


_NEAR = 0.65
_CONTAINED = 0.75
"""Likeness of a name that holds the wanted one whole, as `anthropic.claude-x-v1:0` does `claude-x`."""


def _likeness(matcher: SequenceMatcher[str], wanted: str, key: str) -> float:
    floor = _CONTAINED if len(wanted) >= 4 and wanted in key else 0.0
    matcher.set_seq1(key)
    if matcher.real_quick_ratio() < _NEAR or matcher.quick_ratio() < _NEAR:
        return floor
    return max(floor, matcher.ratio())


def parse_catalog(tables: Iterable[bytes]) -> Catalog:
    """The catalogue from its files' bytes, one JSON document a provider.

    Raises ValueError that says where: a field unknown, missing or ill-typed, a capability, effort level or request
    field that does not exist, a provider twice, a model name twice, limits below 1, a source missing.
    """
    models: list[ModelInfo] = []
    providers: dict[str, tuple[str, ...]] = {}
    decoder = msgspec.json.Decoder(_Table)
    for data in tables:
        table = decoder.decode(data)
        if not table.provider or table.provider in providers or table.provider != table.provider.lower():
            raise ValueError(f"{table.provider!r}: a provider slug is lower-case and has one file")
        providers[table.provider] = table.prefixes
        for row in table.models:
            if problem := _problem(row):
                raise ValueError(f"{table.provider}/{row.model}: {problem}")
            models.append(row.info(table.provider))
    return Catalog(models, providers=providers)


_REQUEST_FIELDS = frozenset(ChatRequest.__struct_fields__)
_EFFORTS = get_args(Effort)


def _problem(row: _Row) -> str:
    """What is wrong with a row beyond its types, "" for nothing."""
    if not row.model or not row.name or not row.source:
        return "model, name and source are due"
    if unknown := {*row.rejects, *row.rejects_while_thinking} - _REQUEST_FIELDS:
        return f"no request fields: {', '.join(sorted(unknown))}"
    if any(limit is not None and limit < 1 for limit in (row.context_tokens, row.output_tokens)):
        return "a limit is at least 1; null where unpublished"
    for field in (row.aliases, row.capabilities, row.rejects, row.rejects_while_thinking, row.hosts):
        if len(set(field)) != len(field):
            return f"twice in one list: {field}"
    if (row.thinking is not None) != ("reasoning" in row.capabilities):
        return "thinking and the capability reasoning go together"
    if row.rejects_while_thinking and row.thinking is None:
        return "rejects_while_thinking without thinking"
    if (row.kind == "embedding") != ("embeddings" in row.capabilities):
        return "kind embedding and the capability embeddings go together"
    efforts = row.thinking.efforts if row.thinking else ()
    if list(efforts) != sorted(set(efforts), key=_EFFORTS.index):
        return "efforts go from least to most, each once"
    return ""
