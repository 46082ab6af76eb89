"""The error tree: what can go wrong, with the status, the code and the text that a visitor gets.

    ImageFactoryError
    ├── ConfigError              a mistake in the configuration; stops the program, never an answer
    ├── RequestError             the visitor's request can't be answered with a picture
    │   ├── BadParameter     400 a parameter has a value that it can't have
    │   ├── Unauthorized     401 the admin token is missing or wrong
    │   ├── Forbidden        403 not for everybody who asks
    │   │   ├── Unsigned         the URL needs a signature
    │   │   ├── WrongSignature   it has one that is not right
    │   │   └── Expired          it was right until a while ago
    │   ├── NotFound         404 no such picture; one text for every reason
    │   │   └── NoSuchJob        no such job
    │   ├── MethodNotAllowed 405
    │   ├── UnderWay         409 another request is writing there at this moment
    │   ├── LengthRequired   411 a body without a length
    │   ├── Exists           412 there is another picture at this address, or not the one that was named
    │   ├── BodyTooLarge     413 what was sent along is too long
    │   ├── WrongType        415 what was sent along is not of the type that it has to be
    │   │   └── WrongPicture     or no picture that is taken here
    │   ├── Truncated        422 the body ended too early
    │   ├── DigestMismatch   422 the body is not the one that its digest says
    │   ├── Undecodable      422 the file is a broken picture
    │   │   ├── OutOfMemory      it takes more memory than a render has
    │   │   └── ProgramFailed    an external program made no picture of it
    │   ├── TooLarge         422 the picture is over the pixel or byte budget
    │   ├── TooMany          429 too many requests of one client or token
    │   ├── MissingExtra     501 that needs a library which is not installed
    │   └── Unavailable      503 try again later
    │       ├── CatalogUnavailable  the database of the catalog can't be used
    │       ├── NoSpace      507 the disk is full
    │       ├── BeingWritten     the source does not hold still
    │       ├── Busy             too many renders at once
    │       ├── TimedOut         a render took too long
    │       └── ProgramStopped   an external program was stopped, or could not be started
    ├── SourceChanged            the source changed while it was read; the generator starts again
    └── StorageError             the cache can't be read or written; the generator answers without it
        └── Full                     within its budget there is no room; the keeper makes some

Each error carries its data and builds its text from it. Doors translate: the Flask error handler to a
status and JSON, the command line to stderr and an exit code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Literal, Self

__all__ = [
    "BadParameter",
    "BeingWritten",
    "Blamed",
    "BodyTooLarge",
    "Busy",
    "CatalogUnavailable",
    "ConfigError",
    "DigestMismatch",
    "Exists",
    "Expired",
    "Forbidden",
    "Full",
    "ImageFactoryError",
    "LengthRequired",
    "MethodNotAllowed",
    "MissingExtra",
    "NoSpace",
    "NoSuchJob",
    "NotFound",
    "OutOfMemory",
    "ProgramFailed",
    "ProgramStopped",
    "RequestError",
    "SourceChanged",
    "StorageError",
    "TimedOut",
    "TooLarge",
    "TooMany",
    "Truncated",
    "Unauthorized",
    "UnderWay",
    "Unavailable",
    "Undecodable",
    "Unsigned",
    "WrongPicture",
    "WrongSignature",
    "WrongType",
    "nearest",
    "shown",
]

Blamed = Literal["source", "frames", "variant"]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``, did you mean 'port'?`` for the allowed word most like *word*; empty if none is close."""
    matches = get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f", did you mean {matches[0]!r}?" if matches else ""


def shown(value: object) -> str:
    """The value for an error text: short, on one line, and without what is inside of a table."""
    written = "a table" if isinstance(value, Mapping) else repr(value)
    return written if len(written) <= 80 else f"{written[:77]}..."


class ImageFactoryError(Exception):
    """The root of all errors raised on purpose by this package."""


class ConfigError(ImageFactoryError):
    """A key of the configuration is unknown or has a value that it can't have.

    *key* is the dotted name (``server.port``), *problem* says with which value and what would be right.
    """

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        self.problem = problem
        super().__init__(f"{key}: {problem}")


class RequestError(ImageFactoryError):
    """A request that is answered with an error status. ``str(error)`` is the public text.

    *lasts_s* is for how many seconds a failed render is remembered, 0 for not at all. *blames* says for what:
    the ``source``, whose first frame can't be decoded for any variant; its ``frames``, which fails the
    variants that move; or this ``variant`` alone.
    """

    status = 400
    code = "bad_request"
    lasts_s = 0.0
    blames: Blamed = "variant"

    def again(self) -> Self:
        """The same error without traceback and cause: those keep pictures alive, and grow with each raise."""
        fresh = self.__class__.__new__(self.__class__, *self.args)
        fresh.__dict__.update(self.__dict__)
        return fresh


class BadParameter(RequestError):
    """A query parameter has a value that it can't have; *name* is the name that the visitor wrote."""

    code = "bad_parameter"

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(problem)


class Unauthorized(RequestError):
    """The token of the config's *section* is missing or wrong (RFC 9110 §15.5.2)."""

    status = 401
    code = "unauthorized"

    def __init__(self, section: str = "admin") -> None:
        self.section = section
        super().__init__(f"this needs the token of [{section}], as 'Authorization: Bearer TOKEN'")


class Forbidden(RequestError):
    """The server is set up not to give this to everybody (``[limits] sizes``, ``[http] private``)."""

    status = 403
    code = "forbidden"


class Unsigned(Forbidden):
    """The URL needs a signature and has none."""

    code = "unsigned"

    def __init__(self) -> None:
        super().__init__("this picture needs a signed URL, which the site writes that shows it")


class WrongSignature(Forbidden):
    """The signature of the URL is not that of its path and parameters. *reason* tells nothing about keys."""

    code = "wrong_signature"

    def __init__(self, reason: str = "it is not that of this path with these parameters") -> None:
        self.reason = reason
        super().__init__(f"the signature of this URL is not right: {reason}")


class Expired(Forbidden):
    """The URL was signed to end at unix time *expired_s*."""

    code = "expired"

    def __init__(self, expired_s: int) -> None:
        self.expired_s = expired_s
        super().__init__(f"this URL ended at unix time {expired_s}; the site has to write a new one")


class NotFound(RequestError):
    """No picture to show: absent, hidden, outside of the folder, or no picture at all.

    One constant text for all of these, so that an answer tells nothing about the disk.
    """

    status = 404
    code = "not_found"

    def __init__(self) -> None:
        super().__init__("there is no picture at this address")


class NoSuchJob(NotFound):
    """There is no job with this id, or it was done long ago."""

    def __init__(self) -> None:
        RequestError.__init__(self, "there is no job with this id, or it was done long ago")


class MethodNotAllowed(RequestError):
    """The method is not one of *allowed* (RFC 9110 §15.5.6)."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        self.method = method
        self.allowed = allowed
        super().__init__(f"this address takes no {method[:20]} requests, only {', '.join(allowed)}")


class UnderWay(RequestError):
    """Another request is writing the same file at this moment (RFC 9110 §15.5.10)."""

    status = 409
    code = "under_way"

    def __init__(self) -> None:
        super().__init__("another upload to this address is under way")


class LengthRequired(RequestError):
    """A body came without a length: a client that vanished could not be told from its end
    (RFC 9110 §15.5.12)."""

    status = 411
    code = "length_required"

    def __init__(self) -> None:
        super().__init__("this needs a Content-Length, or a Content-Digest with sha-256")


class Exists(RequestError):
    """A picture is not written, because of what is there (RFC 9110 §15.5.13)."""

    status = 412
    code = "exists"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class BodyTooLarge(RequestError):
    """A request, or *what* is in it, came with more bytes, or another *unit*, than the *limit* (RFC 9110
    §15.5.14)."""

    status = 413
    code = "body_too_large"

    def __init__(self, limit: int, what: str = "a request", unit: str = "bytes") -> None:
        self.limit = limit
        self.what = what
        super().__init__(f"{what} may have {limit} {unit} here, this one has more")


class Truncated(RequestError):
    """A body ended after *got* bytes of *wanted*, or in the middle of its form."""

    status = 422
    code = "truncated"

    def __init__(self, got: int, wanted: int | None = None) -> None:
        self.got = got
        self.wanted = wanted
        said = f" of {wanted}" if wanted is not None else ", before its form did"
        super().__init__(f"the body ended after {got} bytes{said}")


class DigestMismatch(RequestError):
    """The sha256 of a body is *got*, and its Content-Digest says something else (RFC 9530)."""

    status = 422
    code = "digest_mismatch"

    def __init__(self, got: str) -> None:
        self.got = got
        super().__init__(f"the sha256 of the body is {got}, and not the one that was sent with it")


class TooMany(RequestError):
    """A client asks more often than it may; it may again in *retry_after_s* seconds (RFC 6585 §4)."""

    status = 429
    code = "too_many_requests"

    def __init__(self, rate: str, retry_after_s: int) -> None:
        self.rate = rate
        self.retry_after_s = retry_after_s
        super().__init__(f"more than {rate.replace('/', ' requests a ')} came from here")


class WrongType(RequestError):
    """A request came with something that is not of the media type *wanted* (RFC 9110 §15.5.16)."""

    status = 415
    code = "wrong_type"

    def __init__(self, given: str, wanted: str) -> None:
        self.given = given
        self.wanted = wanted
        super().__init__(f"Content-Type is {given[:100]!r}, and has to be {wanted}")


class WrongPicture(WrongType):
    """What was sent is not a picture of a format that is taken here, or not of the one that its name says."""

    def __init__(self, problem: str) -> None:
        RequestError.__init__(self, problem)


# What the decoder says of some bytes, it says again. Only other bytes, settings or decoders change that; the
# last two come with a new process.
_VERDICT_LASTS_S = 3600.0


class Undecodable(RequestError):
    """The source can't be decoded; *reason* names no path. *cost_a_worker*: the decoder did not say so, its
    process ended."""

    status = 422
    code = "undecodable"
    lasts_s = _VERDICT_LASTS_S
    blames: Blamed = "source"
    cost_a_worker = False

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the source can't be decoded as a picture: {reason}")


class OutOfMemory(Undecodable):
    """A render takes more memory than it may have. Another size may take less."""

    lasts_s = 10.0
    blames: Blamed = "variant"

    def __init__(self) -> None:
        super().__init__("it takes more memory than there is")


class ProgramFailed(Undecodable):
    """The external *program* (its name in the config) made no picture of the source; *reason* says how that
    went. *said* is the end of its standard error, for the log and never for an answer. *is_empty*: the
    program ended well and gave nothing."""

    blames: Blamed = "variant"

    def __init__(self, program: str, reason: str, said: str = "") -> None:
        self.program = program
        self.how = reason
        self.said = said
        self.is_empty = False
        super().__init__(f"the program '{program}' {reason}")


class TooLarge(RequestError):
    """The source has more pixels (one frame of it) or bytes than the budget."""

    status = 422
    code = "too_large"
    lasts_s = _VERDICT_LASTS_S
    blames: Blamed = "source"

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.what = what
        self.size = size
        self.limit = limit
        super().__init__(f"the source has {size} {what}, above the limit of {limit}")


class MissingExtra(RequestError):
    """An optional library is not installed; *extra* names the one of ours that brings it."""

    status = 501
    code = "not_installed"

    def __init__(self, extra: str) -> None:
        self.extra = extra
        super().__init__(f"this needs pip install 'flask-imagefactory[{extra}]'")


class Unavailable(RequestError):
    """No answer now, but perhaps in *retry_after_s* seconds (a whole number, RFC 9110 §10.2.3)."""

    status = 503
    code = "unavailable"

    def __init__(self, problem: str, retry_after_s: int = 2) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(problem)


class CatalogUnavailable(Unavailable):
    """The database of the catalog can't be used. *reason* is for the log: it may name a host or a file."""

    code = "catalog_unavailable"

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__("the catalog of pictures can't be used at the moment", retry_after_s=5)


class NoSpace(Unavailable):
    """A disk has no room for what was sent (RFC 4918 §11.5)."""

    status = 507
    code = "no_space"

    def __init__(self) -> None:
        super().__init__("the disk has no room for this at the moment", retry_after_s=30)


class BeingWritten(Unavailable):
    """The source changes whenever it is read."""

    def __init__(self) -> None:
        super().__init__("the picture is being written at the moment", retry_after_s=1)


class Busy(Unavailable):
    """More renders are asked for than the machine does at once."""

    code = "busy"


class TimedOut(Unavailable):
    """A render, or the wait for somebody else's, went over ``[render] timeout_s``."""

    code = "timed_out"


class ProgramStopped(Unavailable):
    """The external *program* took too much wall time, was ended by somebody else, or could not be started;
    *reason* and *said* as in ``ProgramFailed``."""

    code = "program_stopped"
    lasts_s = 10.0

    def __init__(self, program: str, reason: str, said: str = "") -> None:
        self.program = program
        self.how = reason
        self.said = said
        super().__init__(f"the program '{program}' {reason}", retry_after_s=10)


class SourceChanged(ImageFactoryError):
    """The source is not what its stamp said, or changed while it was read. Never leaves the generator."""


class StorageError(ImageFactoryError):
    """The cache can't be read or written (full, read-only, locked, gone). Never leaves the generator.

    *part* is what fails: index, objects, claims or budget.
    """

    def __init__(self, part: str, problem: str) -> None:
        self.part = part
        super().__init__(problem)


class Full(StorageError):
    """Storing *wanted* bytes more would take the cache over its ``max_bytes``, or the disk under its
    ``min_free``."""

    def __init__(self, wanted: int, problem: str) -> None:
        self.wanted = wanted
        super().__init__("budget", problem)
