"""Reads requests: the token, the Idempotency-Key, and a body of JSON or a form with one file."""

import asyncio
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import multipart
from msgspec import Struct
from starlette.requests import HTTPConnection

from foremask import errors
from foremask.hints.decoding import decode, decode_object, parse
from foremask.options import MEDIA_TYPES
from foremask.service.api.bodies import JobBody
from foremask.service.api.context import ApiRequest, Service
from foremask.service.jobs import admission, tokens
from foremask.service.jobs.admission import NO_LIMIT
from foremask.service.jobs.tokens import Grant

MAX_TOKEN_LENGTH = 512
MAX_KEY_LENGTH = 255
MAX_BODY_BYTES = 1 << 20
SMALL_BODY_BYTES = 64 << 10
SLOT_S = 3.0  # a large body waits so long for its turn
SETTLED_AFTER_S = (
    60.0  # after this time, a call that the database did not answer has ended or failed
)
FORM = "multipart/form-data"
FILE_S = 86_400  # lifetime of links to uploads
MAX_FIELDS = 128
MAX_FORM_BYTES = 64 << 10  # limit on a form without its file
MAX_NAME_LENGTH = 200
RESERVE_BYTES = 32 << 20  # quota reserved at a time if a file's size is unknown

type _Event = multipart.MultipartSegment | bytearray | bytes | None


@dataclass(frozen=True, slots=True)
class Call[B]:
    """A request whose token, rate, body and key are good."""

    service: Service
    request_id: str
    token_hash: bytes
    grant: Grant
    owner: str  # the token's id
    body: B
    body_hash: bytes
    idempotency_key: str | None


@asynccontextmanager
async def submission[B: Struct](
    request: ApiRequest, kind: type[B], operation: str
) -> AsyncGenerator[Call[B]]:
    """Read a request that starts a job. The block sets `RequestFacts.job`.

    At the end, the clip of the request's form is kept if the job is this request's own, and
    discarded if the request failed or an earlier one has started the job.
    """
    try:
        yield await read_call(request, kind, operation)
    except errors.ServiceUnavailable:  # the job may have been stored, and needs its clip
        if request.facts.clip_key is not None:
            settle_later(request.service, request.facts.clip_key)
        raise
    except errors.ForemaskError as error:
        request.service.note_refused(request.id, error)
        await _discard_clip(request)
        raise
    if request.facts.job == request.id:
        await _keep_clip(request)
    else:
        await _discard_clip(request)


async def read_call[B: Struct](
    request: ApiRequest, kind: type[B], operation: str | None = None, *, may_be_empty: bool = False
) -> Call[B]:
    """Check the token, count the request against the token's rate limit, and decode the body.

    ``operation`` is None if the request starts no job. A request whose Idempotency-Key has already
    made a job is not counted. Errors of the token come first, then of the rate limit, the body and
    the Idempotency-Key.
    """
    service = request.service
    token = read_token(request)
    key = None
    if operation is not None:
        key = request.headers.get("idempotency-key")
    is_good = key is None or re.fullmatch(rf"[!-~]{{1,{MAX_KEY_LENGTH}}}", key) is not None
    known_key = None
    if is_good:
        known_key = key
    grant = await tokens.charge_rate(service.database, token, known_key)
    owner = str(grant.token_id)
    request.facts.grant = grant
    request.facts.owner = owner
    request.facts.job = grant.request_id
    takes_clip = operation is not None and issubclass(kind, JobBody)
    if takes_clip and _content_type(request)[0] == FORM:
        is_new = grant.request_id is None and is_good
        body, digest = await _read_clip(request, kind, operation, grant, stores=is_new)
    else:
        body, digest = await read_body(request, kind, operation, may_be_empty=may_be_empty)
    if grant.request_id is not None and grant.body_hash != digest:
        admission.refuse("mismatch")
    if key is not None and not is_good:
        raise errors.FieldInvalid(
            f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable ASCII characters "
            "without a space.",
            param="Idempotency-Key",
            limit=MAX_KEY_LENGTH,
            actual=len(key),
        )
    return Call(service, request.id, token, grant, owner, body, digest, key)


def read_token(request: HTTPConnection) -> bytes:
    """Return the SHA-256 of the request's token. Raises token_missing or token_invalid.

    Only hashes are compared, which prevents timing attacks.
    """
    headers = request.headers
    token = (headers.get("api_token") or headers.get("x-api-key") or "").strip()
    if not token:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = credentials.strip()
    if not token:
        raise errors.Denied(
            "The request carries no token. Send the token in the header api_token, or as"
            " 'Authorization: Bearer TOKEN', or in x-api-key (some proxies drop headers with an"
            " underscore).",
            reason="token_missing",
        )
    if len(token) > MAX_TOKEN_LENGTH:
        raise errors.Denied("The token is unknown, revoked or expired.", reason="token_invalid")
    return hashlib.sha256(token.encode()).digest()


# JSON bodies


async def read_body[B: Struct](
    request: ApiRequest, kind: type[B], operation: str | None = None, *, may_be_empty: bool = False
) -> tuple[B, bytes]:
    """Return the decoded JSON body, of at most 1 MiB, and its `_digest`.

    Raises body_too_large, content_type, BadJson or errors of fields, in this order.
    """
    raw = await _read(request)
    declared, _ = _content_type(request)
    if declared != "application/json" and (raw or not may_be_empty):
        raise errors.BadRequest(
            f"The body is declared as {declared[:100] or 'nothing'}; send application/json.",
            reason="content_type",
        )
    if may_be_empty and not raw:
        raw = b"{}"
    body, fields = decode_object(raw, kind)
    _note_unknown(request, fields, kind)
    return body, _digest(fields, operation)


def _note_unknown(request: ApiRequest, fields: dict[str, Any], kind: type[Struct]) -> None:
    unknown = [name for name in fields if name not in kind.__struct_encode_fields__]
    request.facts.unknown_fields = [name[:64] for name in unknown[:8]]


def _digest(fields: dict[str, Any], operation: str | None) -> bytes:
    """Return the SHA-256 of the operation's name and all fields except ``sync``."""
    text = json.dumps({key: fields[key] for key in fields if key != "sync"}, sort_keys=True)
    return hashlib.sha256(f"{operation} {text}".encode()).digest()


def _content_length(request: ApiRequest) -> int:
    declared = request.headers.get("content-length", "")
    if re.fullmatch(r"[0-9]{1,18}", declared) is None:
        return 0
    return int(declared)


async def _read(request: ApiRequest) -> bytes:
    size = _content_length(request)
    body = bytearray()
    if size <= MAX_BODY_BYTES:
        async with AsyncExitStack() as turn:
            async for chunk in request.stream():
                if len(body) <= SMALL_BODY_BYTES < len(body) + len(chunk):
                    await turn.enter_async_context(_large_body(request, "read"))
                body += chunk
                size = max(size, len(body))
                if size > MAX_BODY_BYTES:
                    break
    if size > MAX_BODY_BYTES:
        raise errors.BadRequest(
            f"The body has {size} bytes or more and may have {MAX_BODY_BYTES}; upload a video.",
            reason="body_too_large",
            limit=MAX_BODY_BYTES,
            actual=size,
        )
    return bytes(body)


def _large_body(request: ApiRequest, done: str) -> AbstractAsyncContextManager[None]:
    """Hold one of the slots for large bodies. Raises Overloaded if none is free in `SLOT_S`."""
    owner = request.facts.owner or ""
    return request.service.large_bodies.slot(owner, SLOT_S, done)


# Forms with one file


@dataclass(frozen=True, slots=True)
class FileForm:
    """A form that has been read up to its file's content."""

    fields: list[tuple[str, str]]
    file: multipart.MultipartSegment
    events: AsyncGenerator[_Event]

    @property
    def media_type(self) -> str:
        return (self.file.content_type or "").lower()

    async def content(self) -> AsyncGenerator[bytes]:
        """Yield the file's bytes. Raises bad_form if the body ends inside the file."""
        async for event in self.events:
            if event is None:
                return
            assert not isinstance(event, multipart.MultipartSegment)  # noqa: S101
            yield bytes(event)
        raise errors.BadRequest("The form broke off inside the file.", reason="bad_form")


async def _read_clip[B: Struct](
    request: ApiRequest, kind: type[B], operation: str | None, grant: Grant, *, stores: bool
) -> tuple[B, bytes]:
    """Decode a form whose file is the clip. Returns the body and its SHA-256.

    In the body, ``video`` is a link to the clip. The SHA-256 covers fields and clip. With
    ``stores``, the clip is stored. Fields before the clip are validated before the clip is read.
    """
    service = request.service
    most = service.limits.max_bytes
    declared_bytes = declared_size(request, most + MAX_BODY_BYTES)
    form = await open_form(request, MAX_BODY_BYTES)
    if form.file.name != "video":
        raise errors.BadRequest(
            f"The file is in the part {form.file.name[:64]!r}, not in 'video'.", reason="bad_form"
        )
    key = upload_key(request, form.media_type)
    link = service.objects.signer.link(key, FILE_S)
    if form.fields:
        decode(_values(form.fields) | {"video": link}, kind, strict=False)
    hashed = hashlib.sha256()

    async def content() -> AsyncGenerator[bytes]:
        async for block in form.content():
            hashed.update(block)
            yield block

    if stores:
        name = file_name(form.file.filename)
        claim = admission.claim_of(service.process_id, request.id)
        await admission.new_upload(service.database, key, grant.token_id, name, claim)
        await store(request, key, content(), declared_bytes, most)
        request.facts.clip_key = key
    else:
        async for _ in content():
            pass
    behind, second = await _read_fields(form.events, MAX_BODY_BYTES)
    if second is not None:
        raise errors.BadRequest(
            "The form has a second file; a job has one clip.", reason="bad_form"
        )
    fields = _values(form.fields + behind)
    body = decode(fields | {"video": link}, kind, strict=False)
    _note_unknown(request, fields, kind)
    return body, _digest(fields | {"video": hashed.hexdigest()}, operation)


def upload_key(request: ApiRequest, media_type: str) -> str:
    suffix = next((end for end, known in MEDIA_TYPES.items() if known == media_type), "")
    return f"uploads/{request.id}/{request.id}{suffix}"


def _values(fields: list[tuple[str, str]]) -> dict[str, Any]:
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in fields:
        texts[name].append(text)
    return {name: _value(parts) for name, parts in texts.items()}


def _value(texts: list[str]) -> object:
    """Decode the texts of one form field. A text that begins with ``[`` or ``{`` is JSON."""
    try:
        values = [parse(text.encode()) if text.startswith(("[", "{")) else text for text in texts]
    except errors.BadJson:
        return texts[0]
    if len(values) == 1 and not isinstance(values[0], dict):
        return values[0]
    return values


async def store(
    request: ApiRequest, key: str, content: AsyncIterator[bytes], declared: int, most: int
) -> None:
    """Store the file and reserve its size from the token's quota. An error undoes both.

    The caller settles what is stored. Raises file_too_large over ``most`` bytes,
    storage_quota, storage_full or Overloaded.
    """
    service = request.service
    size = reserved = 0

    async def reserve(more: int) -> None:
        nonlocal reserved
        service.objects.check_free(more)
        reserved = size + more
        await admission.reserve(service.database, key, reserved, service.storage_limit)

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
        async with _large_body(request, "stored"):
            await reserve(declared)
            await service.objects.put(key, counted())
    except BaseException:
        settle_later(service, key)
        await asyncio.shield(admission.give_back(service.database, key))
        service.unsettled.pop(key, None)
        raise
    try:
        await admission.reserve(service.database, key, size, NO_LIMIT)
    except errors.ServiceUnavailable:
        settle_later(service, key)
        raise


def settle_later(service: Service, key: str) -> None:
    """Let `keep_settling` decide about an upload after calls of the database have ended."""
    service.unsettled[key] = asyncio.get_running_loop().time() + SETTLED_AFTER_S


async def _discard_clip(request: ApiRequest) -> None:
    service = request.service
    key = request.facts.clip_key
    if key is not None:
        settle_later(service, key)
        await service.objects.delete(key)
        await admission.give_back(service.database, key)
        service.unsettled.pop(key, None)


async def _keep_clip(request: ApiRequest) -> None:
    service = request.service
    key = request.facts.clip_key
    if key is not None:
        try:
            await admission.settle(service.database, key)
        except errors.ServiceUnavailable:
            settle_later(service, key)  # the job is accepted: `keep_settling` finds it


async def open_form(request: ApiRequest, most_bytes: int) -> FileForm:
    """Read the fields before the file, of at most ``most_bytes`` in all.

    Raises content_type or bad_form.
    """
    kind, options = _content_type(request)
    if kind != FORM or not options.get("boundary"):
        raise errors.BadRequest(
            f"An upload is a form: send 'Content-Type: {FORM}'.", reason="content_type"
        )
    events = _events(request, options["boundary"])
    fields, file = await _read_fields(events, most_bytes)
    if file is None:
        raise errors.BadRequest(
            "The form has no file, which comes after all fields.", reason="bad_form"
        )
    return FileForm(fields, file, events)


async def _read_fields(
    events: AsyncGenerator[_Event], most_bytes: int
) -> tuple[list[tuple[str, str]], multipart.MultipartSegment | None]:
    """Return the fields before the next file, and that file or None."""
    fields: list[tuple[str, str]] = []
    name = ""
    value = bytearray()
    size = 0
    async for event in events:
        if isinstance(event, multipart.MultipartSegment):
            name = event.name
            value = bytearray()
            if event.filename is not None or name == "file":
                return fields, event
        elif event is None:
            fields.append((name, value.decode("utf-8", "replace")))
        else:
            value += event
            size += len(event)
            if size > most_bytes:
                raise errors.BadRequest(
                    f"The form's fields have over {most_bytes} bytes.",
                    reason="bad_form",
                    limit=most_bytes,
                )
    return fields, None


def _content_type(request: ApiRequest) -> tuple[str, dict[str, str]]:
    kind, options = multipart.parse_options_header(request.headers.get("content-type", ""))
    return kind, options


def file_name(sent: str | None) -> str | None:
    """Remove directories and unprintable characters. Returns None if nothing is left."""
    last = re.split(r"[/\\]", sent or "")[-1]
    return "".join(each for each in last if each.isprintable())[:MAX_NAME_LENGTH] or None


async def _events(request: ApiRequest, boundary: str) -> AsyncGenerator[_Event]:
    """Yield for each part its headers, its bytes in blocks, and None."""
    try:
        parser = multipart.PushMultipartParser(
            boundary, max_segment_count=MAX_FIELDS, max_segment_size=float("inf")
        )
        async for chunk in request.stream():
            if chunk and not parser.closed:  # ignore bytes after the form's end
                for event in parser.parse(chunk):
                    yield event
        for event in parser.parse(b""):
            yield event
    except (multipart.MultipartError, ValueError) as error:
        why = next(iter(error.args), "")  # the parser's message
        raise errors.BadRequest(f"The form cannot be read: {why}.", reason="bad_form") from None


def declared_size(request: ApiRequest, most: int) -> int:
    """Return the Content-Length, or 0. Raises file_too_large if the file must exceed ``most``."""
    size = _content_length(request)
    if size > most + MAX_FORM_BYTES:
        raise _too_large(most, size)
    return size


def _too_large(max_bytes: int, size: int) -> errors.ClipRefused:
    return errors.ClipRefused(
        f"The file has {size} bytes or more; at most {max_bytes} are taken.",
        reason="file_too_large",
        param="file",
        limit=max_bytes,
        actual=size,
    )
