"""What a server and its render workers say to each other, over a socket between two processes.

A message is its length in four bytes, then a JSON object, then as many raw bytes as its ``"body"`` says. A
job comes with its source as an open file (SCM_RIGHTS): the worker opens no source by its name. JSON and not
pickle: the worker decodes bytes of strangers, and must not be able to run code in the server.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ..errors import (
    ImageFactoryError,
    OutOfMemory,
    ProgramFailed,
    ProgramStopped,
    RequestError,
    SourceChanged,
    TooLarge,
    Undecodable,
)
from ..model.job import Job, Rendered
from ..model.program import Program, ProgramJob
from ..model.recipe import parse
from ..model.source import Header, Stamp, placeholder_in

__all__ = [
    "Message",
    "error_from",
    "error_message",
    "header_from",
    "header_message",
    "job_from",
    "job_message",
    "program_job_from",
    "program_job_message",
    "receive",
    "receive_task",
    "rendered_from",
    "rendered_message",
    "send",
]

Message = dict[str, Any]
_LENGTH = struct.Struct(">I")
_MAX_MESSAGE = 2**20
_MAX_BODY = 2**30


def send(channel: socket.socket, message: Message, body: bytes = b"", descriptor: int | None = None) -> None:
    """Send *message* with *body* behind it, and with an open file (SCM_RIGHTS) if there is a *descriptor*.
    Raises OSError when nobody listens any more."""
    text = json.dumps({**message, "body": len(body)} if body else message).encode()
    data = memoryview(_LENGTH.pack(len(text)) + text + body)
    if descriptor is not None:  # a part of the data may be sent with it
        data = data[socket.send_fds(channel, [data], [descriptor]) :]
    channel.sendall(data)


def receive(channel: socket.socket) -> tuple[Message, bytes]:
    """The next message and its body. Raises EOFError when the other side is gone, TimeoutError when the
    channel's own time-out passes before the message is complete, OSError for what is no message. An open
    file that came with it is closed: a worker has none to give."""
    return _rest(channel, _read(channel, _LENGTH.size))


@contextmanager
def receive_task(channel: socket.socket) -> Iterator[tuple[Message, int | None]]:
    """The next message, and the descriptor of the file that came with it, which is closed after the block.
    Raises as ``receive``."""
    start, found, _, _ = socket.recv_fds(channel, _LENGTH.size, 1)
    for descriptor in found:
        os.set_inheritable(descriptor, False)  # as for all that Python opens
    try:
        start += _read(channel, _LENGTH.size - len(start)) if start else b""
        if not start:
            raise EOFError
        yield _rest(channel, start)[0], found[0] if found else None
    finally:
        for descriptor in found:
            os.close(descriptor)


def _rest(channel: socket.socket, start: bytes) -> tuple[Message, bytes]:
    """The message that begins with *start*, its length."""
    (length,) = _LENGTH.unpack(start)
    if length > _MAX_MESSAGE:
        raise OSError(f"a message of {length} bytes")
    try:
        message = json.loads(_read(channel, length))
        size = message.get("body", 0)
        if not 0 <= size <= _MAX_BODY:
            raise ValueError
        return message, _read(channel, size)
    except (ValueError, AttributeError, TypeError) as error:
        raise OSError("this is no message") from error


def _read(channel: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        chunk = channel.recv(min(length - len(data), 2**20))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


# --- values as messages, and back ---------------------------------------------------------------------------


def job_message(job: Job) -> Message:
    """*job* as a message, without its open file."""
    return {
        "source": str(job.source),
        "stamp": job.stamp,
        "recipe": job.recipe.text(),
        "encoding": job.encoding,
        "target": None if job.target is None else str(job.target),
        "max_pixels": job.max_pixels,
        "max_side": job.max_side,
        "effort": dict(job.effort),
        "wants_placeholder": job.wants_placeholder,
        "may_transcode": job.may_transcode,
        "encoder": job.encoder and _program_message(job.encoder),
    }


def job_from(message: Mapping[str, Any], descriptor: int | None = None) -> Job:
    """The job in *message*, with the file that came along."""
    return Job(
        Path(message["source"]),
        Stamp(*message["stamp"]),
        parse(message["recipe"]),
        message["encoding"],
        None if message["target"] is None else Path(message["target"]),
        message["max_pixels"],
        message["max_side"],
        message["effort"],
        message["wants_placeholder"],
        message["may_transcode"],
        descriptor,
        message["encoder"] and _program_from(message["encoder"]),
    )


def program_job_message(job: ProgramJob) -> Message:
    """*job* as a message, without its open file."""
    return {
        "source": str(job.source),
        "stamp": job.stamp,
        "programs": [_program_message(each) for each in (job.program, *job.fallbacks)],
        "values": dict(job.values),
        "makes": job.makes,
        "target": None if job.target is None else str(job.target),
        "timeout_s": job.timeout_s,
    }


def program_job_from(message: Mapping[str, Any], descriptor: int | None = None) -> ProgramJob:
    """The job in *message*, with the file that came along."""
    program, *fallbacks = map(_program_from, message["programs"])
    target = None if message["target"] is None else Path(message["target"])
    return ProgramJob(
        Path(message["source"]),
        Stamp(*message["stamp"]),
        program,
        message["values"],
        message["makes"],
        target,
        tuple(fallbacks),
        descriptor,
    )


def _program_message(program: Program) -> Message:
    return {each.name: getattr(program, each.name) for each in fields(program)} | {
        "environment": dict(program.environment)
    }


def _program_from(message: Mapping[str, Any]) -> Program:
    lists = {name: tuple(value) for name, value in message.items() if isinstance(value, list)}
    return Program(**{**message, **lists})


def rendered_message(rendered: Rendered) -> tuple[Message, bytes]:
    """*rendered* as a message and its body."""
    facts = asdict(replace(rendered, body=None))
    return {"is": "rendered", "has_body": rendered.body is not None, **facts, "body": 0}, rendered.body or b""


def rendered_from(message: Mapping[str, Any], body: bytes) -> Rendered:
    """What was rendered, as *message* and *body* say."""
    seconds = {str(name): float(value) for name, value in message["seconds"].items()}
    kept = body if message["has_body"] else None
    placeholder = placeholder_in(message["placeholder"])
    width, height, digest = int(message["width"]), int(message["height"]), str(message["digest"])
    return Rendered(width, height, kept, seconds, placeholder, digest)


def header_message(header: Header | None) -> Message:
    """*header* as a message."""
    return {"is": "header", "header": header and asdict(header)}


def header_from(message: Mapping[str, Any], body: bytes = b"") -> Header | None:
    """The header in *message*; there is no body."""
    return Header(**message["header"]) if message["header"] else None


def error_message(error: Exception) -> Message:
    """*error* as a message: one of ours that a renderer may raise, or an OSError."""
    if isinstance(error, TooLarge):
        arguments: list[Any] = [error.what, error.size, error.limit]
    elif isinstance(error, OutOfMemory):
        arguments = []
    elif isinstance(error, ProgramFailed | ProgramStopped):
        arguments = [error.program, error.how, error.said, error.lasts_s]
    elif isinstance(error, Undecodable):
        arguments = [error.reason]
    elif isinstance(error, OSError):
        arguments = [error.errno, error.strerror]
    else:
        arguments = [str(error)]
    name = "OSError" if isinstance(error, OSError) else type(error).__name__
    blames = error.blames if isinstance(error, RequestError) else ""
    return {"is": "error", "name": name, "arguments": arguments, "blames": blames}


def error_from(message: Mapping[str, Any]) -> ImageFactoryError | OSError:
    """The error in *message*, to be raised; what is none of the known ones is a picture that can't be
    decoded."""
    error = _error_from(message)
    blames = message.get("blames")
    if isinstance(error, RequestError) and blames in ("source", "frames", "variant"):
        error.blames = blames
    return error


def _error_from(message: Mapping[str, Any]) -> ImageFactoryError | OSError:
    arguments = message["arguments"]
    match message["name"]:
        case "TooLarge":
            return TooLarge(str(arguments[0]), int(arguments[1]), int(arguments[2]))
        case "SourceChanged":
            return SourceChanged(str(arguments[0]))
        case "OSError":
            return OSError(*arguments)
        case "OutOfMemory":
            return OutOfMemory()
        case "ProgramFailed" | "ProgramStopped":
            kind = ProgramFailed if message["name"] == "ProgramFailed" else ProgramStopped
            failed = kind(*map(str, arguments[:3]))
            failed.lasts_s = float(arguments[3])
            return failed
        case "Undecodable":
            return Undecodable(str(arguments[0]))
        case _:
            return Undecodable("the decoder failed on it")
