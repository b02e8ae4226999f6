"""Images, documents and sounds as Converse has them: a format word, and bytes or a place in S3, the only one that
Bedrock fetches from (service model, ImageBlock, DocumentBlock, AudioBlock)."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Final

from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.messages import Audio, Document, Image, Inline, Remote, Source
from server.core.ports import ProviderCall
from server.providers.params import JsonObject

Warn = Callable[[str, str], None]
"""(what, message): a part that went out as something near to it; each kind of `what` once."""

IMAGES: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}

DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/x-markdown": "md",
}
"""Every other text/* goes as txt."""

AUDIO: Final = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/x-wav": "wav",
    "audio/vnd.wave": "wav",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/aac": "aac",
    "audio/mp4": "mp4",
    "audio/m4a": "m4a",
    "audio/x-m4a": "m4a",
    "audio/webm": "webm",
    "audio/x-matroska": "mka",
}

MAX_NAME: Final = 200
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9\s()\[\]-]", re.ASCII)
_RENAMED: Final = (
    "Converse takes letters, digits, spaces, hyphens and brackets in the names of documents, each name once; names were"
    " changed to that"
)
_SPACES: Final = re.compile(r"\s+")


class Media:
    """Blocks of one request. Documents must have names, each its own (anomalyco/opencode#48756)."""

    def __init__(self, call: ProviderCall, warn: Warn) -> None:
        self._call = call
        self._warn = warn
        self._names: set[str] = set()

    def image(self, part: Image, where: str) -> JsonObject:
        """An image block. Raises UnsupportedParameter for a model without eyes, and for what is no such image."""
        self._require("vision", "images", where)
        if part.detail in ("low", "high"):
            self._warn("detail", "Converse cannot be told how closely to look at an image")
        format = self._format(part.source, IMAGES, where, "png, jpeg, gif and webp images")
        return {"image": {"format": format, "source": self._source(part.source, where)}}

    def audio(self, part: Audio, where: str) -> JsonObject:
        """An audio block, as `image`."""
        self._require("audio_input", "audio", where)
        format = self._format(part.source, AUDIO, where, "mp3, wav, flac, ogg, opus, aac, m4a, mka and webm audio")
        return {"audio": {"format": format, "source": self._source(part.source, where)}}

    def document(self, part: Document, where: str) -> JsonObject:
        """A document block."""
        wanted = "pdf, csv, doc, docx, xls, xlsx, html, md and text documents"
        format = self._format(part.source, DOCUMENTS, where, wanted)
        block: JsonObject = {"format": format, "name": self._name(part.name)}
        block["source"] = self._source(part.source, where)
        if part.citations:
            block["citations"] = {"enabled": True}
        return {"document": block}

    def _require(self, capability: str, what: str, where: str) -> None:
        info = self._call.info
        if info is not None and capability not in info.capabilities:
            raise UnsupportedParameter.field(where, f"{self._call.model} takes no {what}")

    def _format(self, source: Source, formats: Mapping[str, str], where: str, wanted: str) -> str:
        media_type = source.media_type.partition(";")[0].strip().lower()
        if media_type in formats:
            return formats[media_type]
        if formats is DOCUMENTS and media_type.startswith("text/"):
            return "txt"
        if isinstance(source, Remote) and not media_type:
            extension = source.url.rpartition("/")[2].rpartition(".")[2].lower()
            if extension in formats.values():
                return extension
            raise InvalidRequest.field(where, "needs a media type, as its address does not tell it")
        got = f", not {media_type}" if media_type else ""
        raise UnsupportedParameter.field(where, f"{self._call.model}: Converse takes {wanted}{got}")

    def _source(self, source: Source, where: str) -> JsonObject:
        match source:
            case Inline():
                return {"bytes": b64encode(source.data).decode()}
            case Remote() if source.url.startswith("s3://"):
                return {"s3Location": {"uri": source.url}}
            case Remote():
                why = f"{self._call.model}: Bedrock fetches media from s3:// alone; send the bytes"
                raise UnsupportedParameter.field(where, why)
            case _:
                why = f"{self._call.model}: Bedrock keeps no uploaded files; send the bytes or an s3:// address"
                raise UnsupportedParameter.field(where, why)

    def _name(self, wanted: str | None) -> str:
        """The name with what Converse takes: ASCII letters, digits, single spaces, hyphens, brackets of two kinds."""
        plain = _SPACES.sub(" ", _NOT_IN_NAMES.sub("-", wanted or "")).strip()[:MAX_NAME]
        if not plain.strip("- "):
            plain = f"Document {len(self._names) + 1}"
        name, times = plain, 1
        while name in self._names:
            times += 1
            suffix = f" ({times})"
            name = plain[: MAX_NAME - len(suffix)] + suffix
        self._names.add(name)
        if wanted is not None and name != wanted:
            self._warn("document.name", _RENAMED)
        return name
