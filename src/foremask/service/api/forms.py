"""Reads a form with one file, and stores it within the token's quota and the disk's reserve."""

import asyncio
import hashlib
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import multipart
from msgspec import Struct

from foremask.errors import BadJson, ContentTypeWrong, FileTooLarge, FormInvalid
from foremask.options import MEDIA_TYPES
from foremask.service.api import parsing
from foremask.service.api.request_context import CLIP, ApiRequest, Service
from foremask.service.jobs import stored
from foremask.service.jobs.admission import NO_LIMIT, Grant

FORM = "multipart/form-data"
FILE_S = 86_400  # a link to an uploaded file
MAX_FIELDS = 128
MAX_FORM_BYTES = 64 << 10  # what the fields and boundaries of an upload may add to the file
MAX_NAME_LENGTH = 200
RESERVE_BYTES = 32 << 20  # where nobody says how much will come

type _Event = multipart.MultipartSegment | bytearray | bytes | None


@dataclass(frozen=True, slots=True)
class FileForm:
    """A form as far as the head of its file."""

    fields: list[tuple[str, str]]
    file: multipart.MultipartSegment
    events: AsyncGenerator[_Event]

    @property
    def media_type(self) -> str:
        """As the part says, or an empty text."""
        return (self.file.content_type or "").lower()

    async def content(self) -> AsyncGenerator[bytes]:
        """The bytes of the file. Raises FormInvalid where the form breaks off."""
        async for event in self.events:
            if event is None:
                return
            assert not isinstance(event, multipart.MultipartSegment)  # noqa: S101
            yield bytes(event)
        raise FormInvalid("The form broke off inside the file.")


def is_form(request: ApiRequest) -> bool:
    """Whether the body is declared as one."""
    return _content_type(request)[0] == FORM


async def read_clip[B: Struct](
    request: ApiRequest, kind: type[B], call: str | None, grant: Grant, *, stores: bool
) -> tuple[B, bytes]:
    """As `parsing.read_body`, of a form that has the job's clip as its file.

    The body's ``video`` is a link to the clip, which is stored if it ``stores``: then the scope
    has its key as `CLIP`. The SHA-256 covers the clip, too. Fields before the clip are refused
    before it is read.
    """
    service, own, most = request.service, request.id, request.service.limits.max_bytes
    declared_bytes = declared_size(request, most + parsing.MAX_BODY_BYTES)
    form = await open_form(request, parsing.MAX_BODY_BYTES)
    if form.file.name != "video":
        raise FormInvalid(f"The file is in the part {form.file.name[:64]!r}, not in 'video'.")
    suffix = next((end for end, name in MEDIA_TYPES.items() if name == form.media_type), "")
    key = f"uploads/{own}/{own}{suffix}"
    link = service.objects.signer.link(key, FILE_S)
    if form.fields:
        parsing.decoded(request, _values(form.fields) | {"video": link}, kind, strict=False)
    hashed = hashlib.sha256()

    async def content() -> AsyncGenerator[bytes]:
        async for block in form.content():
            hashed.update(block)
            yield block

    if stores:
        name = file_name(form.file.filename)
        await stored.new_upload(service.database, key, grant.token_id, name)
        await store(service, key, content(), declared_bytes, most)
        request.scope["state"][CLIP] = key
    else:
        async for _ in content():
            pass
    behind, second = await _read_fields(form.events, parsing.MAX_BODY_BYTES)
    if second is not None:
        raise FormInvalid("The form has a second file; a job has one clip.")
    fields = _values(form.fields + behind)
    body = parsing.decoded(request, fields | {"video": link}, kind, strict=False)
    return body, parsing.digest(fields | {"video": hashed.hexdigest()}, call)


def _values(fields: list[tuple[str, str]]) -> dict[str, Any]:
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in fields:
        texts[name].append(text)
    return {name: _value(parts) for name, parts in texts.items()}


def _value(texts: list[str]) -> object:
    """A text, a JSON array, or the JSON objects of several parts, as OpenAPI has them.

    What is no JSON stays a text, which its field then refuses.
    """
    try:
        values = [
            parsing.parse(text.encode()) if text.startswith(("[", "{")) else text for text in texts
        ]
    except BadJson:
        return texts[0]
    return values[0] if len(values) == 1 and not isinstance(values[0], dict) else values


async def store(
    service: Service, key: str, content: AsyncIterator[bytes], declared: int, most: int
) -> None:
    """Store the whole file, within the token's quota and the disk's reserve, or nothing."""
    size = reserved = 0

    async def reserve(more: int) -> None:
        nonlocal reserved
        service.objects.check_free(more)
        reserved = size + more
        await stored.reserve(service.database, key, reserved, service.storage_limit)

    async def counted() -> AsyncGenerator[bytes]:
        nonlocal size
        async for block in content:
            if size + len(block) > most:
                raise _too_large(most, size + len(block))
            if size + len(block) > reserved:
                await reserve(max(RESERVE_BYTES, len(block)))
            size += len(block)
            yield block

    try:
        await reserve(declared)
        await service.objects.put(key, counted())
    except BaseException:
        await asyncio.shield(stored.reserve(service.database, key, 0, 0))
        raise
    await stored.reserve(service.database, key, size, NO_LIMIT)


async def discard(service: Service, key: str) -> None:
    """Delete a stored file that no job has."""
    await service.objects.delete(key)
    await stored.reserve(service.database, key, 0, 0)


async def open_form(request: ApiRequest, most_bytes: int) -> FileForm:
    """The form as far as its file; its fields have ``most_bytes`` together.

    Raises ContentTypeWrong or FormInvalid.
    """
    kind, options = _content_type(request)
    if kind != FORM or not options.get("boundary"):
        raise ContentTypeWrong(f"An upload is a form: send 'Content-Type: {FORM}'.")
    events = _events(request, options["boundary"])
    fields, file = await _read_fields(events, most_bytes)
    if file is None:
        raise FormInvalid("The form has no file, which comes after all fields.")
    return FileForm(fields, file, events)


async def _read_fields(
    events: AsyncGenerator[_Event], most_bytes: int
) -> tuple[list[tuple[str, str]], multipart.MultipartSegment | None]:
    """The fields up to the next file, and its head; None at the form's end."""
    fields: list[tuple[str, str]] = []
    name, value, size = "", bytearray(), 0
    async for event in events:
        if isinstance(event, multipart.MultipartSegment):
            name, value = event.name, bytearray()
            if event.filename is not None or name == "file":
                return fields, event
        elif event is None:
            fields.append((name, value.decode("utf-8", "replace")))
        else:
            value += event
            size += len(event)
            if size > most_bytes:
                raise FormInvalid(
                    f"The form's fields have over {most_bytes} bytes.", limit=most_bytes
                )
    return fields, None


def _content_type(request: ApiRequest) -> tuple[str, dict[str, str]]:
    kind, options = multipart.parse_options_header(request.headers.get("content-type", ""))
    return kind, options


def file_name(sent: str | None) -> str | None:
    """The file name without directories and control characters; None for no name."""
    last = re.split(r"[/\\]", sent or "")[-1]
    return "".join(each for each in last if each.isprintable())[:MAX_NAME_LENGTH] or None


async def _events(request: ApiRequest, boundary: str) -> AsyncGenerator[_Event]:
    """Yields each part's head, then its bytes, then None."""
    try:
        parser = multipart.PushMultipartParser(
            boundary, max_segment_count=MAX_FIELDS, max_segment_size=float("inf")
        )
        async for chunk in request.stream():
            if chunk and not parser.closed:  # what comes behind the form's end is nothing to us
                for event in parser.parse(chunk):
                    yield event
        for event in parser.parse(b""):
            yield event
    except (multipart.MultipartError, ValueError) as error:
        why = next(iter(error.args), "")  # the other arguments are Python's own words
        raise FormInvalid(f"The form cannot be read: {why}.") from None


def declared_size(request: ApiRequest, most: int) -> int:
    """The body's declared bytes, 0 for none. Raises FileTooLarge if they are over ``most``."""
    size = parsing.content_length(request)
    if size > most + MAX_FORM_BYTES:
        raise _too_large(most, size)
    return size


def _too_large(max_bytes: int, size: int) -> FileTooLarge:
    return FileTooLarge(
        f"The file has {size} bytes or more; at most {max_bytes} are taken.",
        param="file",
        limit=max_bytes,
        actual=size,
    )
