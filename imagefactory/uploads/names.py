"""Where an upload is to lie: names as clients write them, and the paths that they get below the pictures.

The path of a PUT is taken as it is, or refused. The name of a file in a form is made safe where that is
harmless (characters that some systems can't have, another spelling of the same letters); what tries to lead
elsewhere, to hide, or to be run by a web server is refused as well.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

from ..errors import BadParameter, NotFound
from ..storage.originals import check_path

__all__ = ["SUFFIXES", "joined", "path_of", "placed", "safe_name"]

# The suffixes that a file of each kind may have (``model.formats.starts_as``); the first is written.
SUFFIXES = {
    "jpeg": ("jpg", "jpeg", "jpe", "jfif"),
    "png": ("png", "apng"),
    "webp": ("webp",),
    "avif": ("avif", "avifs"),
    "heif": ("heic", "heif", "hif"),
    "gif": ("gif",),
    "tiff": ("tif", "tiff"),
    "bmp": ("bmp",),
    "ico": ("ico",),
    "jpeg2000": ("jp2", "j2k", "jpx", "jpf"),
}
# Bytes. A name of 255 is what file systems take; the rest is for whoever puts something behind it.
_LONGEST_NAME = 200
_LONGEST_PATH = 900
# Names that Windows takes for devices, with any suffix: a disk may be shared, an archive unpacked there.
_DEVICES = re.compile(r"(con|prn|aux|nul|con(in|out)\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE)
# What web servers may run, or browsers read as a page, also where it is not the last suffix: Apache's
# mod_mime hands a.php.jpg to PHP.
_RUN = frozenset(
    """php php3 php4 php5 php7 php8 phps pht phtml phar asp aspx ashx asmx cer jsp jspx jsw cfm cgi pl py rb
    sh bat cmd exe dll com msi jar war html htm xhtml shtml xht svg svgz js mjs xml xsl hta htaccess
    htpasswd swf vbs ps1""".split()  # noqa: SIM905
)
_FORBIDDEN = frozenset('<>:"|?*\\')
_ODD = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, marks of direction, unassigned
_UNSEEN = frozenset("\ufffd\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # letters without ink


def path_of(text: str) -> str:
    """The path that a PUT names, which is *text* itself. Raises BadParameter where that can't be one."""
    for name in text.split("/"):
        problem = _problem(name)
        if problem:
            raise _bad(name, problem)
    try:
        check_path(text)
    except NotFound:
        raise _bad(text, "it is no path of a picture") from None
    if len(text.encode()) > _LONGEST_PATH:
        raise _bad(text, f"a path has {_LONGEST_PATH} bytes at most")
    if unicodedata.normalize("NFC", text) != text:
        raise _bad(text, "its letters are to be in Unicode's form NFC")
    return text


def safe_name(given: str) -> str:
    """The name that a file of a form may have, from the one that its client *given*. Raises BadParameter."""
    if re.match(r"[A-Za-z]:\\", given):  # a browser of old, or C:\fakepath\
        given = given.rpartition("\\")[2]
    parts = re.split(r"[/\\]", given)
    if ".." in parts or given.startswith(("/", "\\")):
        raise _bad(given, "it leads out of its folder")
    name = unicodedata.normalize("NFC", parts[-1]).strip()
    name = "".join("_" if letter in _FORBIDDEN else letter for letter in name)
    problem = _problem(name)
    if problem:
        raise _bad(name, problem)
    return name


def placed(pattern: str, name: str, digest: str, kind: str, now_s: float) -> str:
    """The path of a file of a form by ``[uploads] names``: *name* is safe, *digest* that of the body."""
    suffix = SUFFIXES[kind][0]
    if pattern == "sha256":
        return f"{digest}.{suffix}"
    if "." not in name:
        name = f"{name}.{suffix}"
    if pattern == "keep":
        return name
    day = datetime.fromtimestamp(now_s, UTC)
    words = {
        "name": name,
        "sha256": digest,
        "date": f"{day:%Y-%m-%d}",
        "year": f"{day:%Y}",
        "month": f"{day:%m}",
        "day": f"{day:%d}",
    }
    path = re.sub(r"{([a-z0-9]+)}", lambda match: words[match[1]], pattern)
    return path if path.endswith(name) else f"{path}.{suffix}"


def joined(folder: str, path: str) -> str:
    """*path* below the *folder* of ``[uploads]``."""
    return path if folder == "." else f"{folder}/{path}"


def _bad(name: str, problem: str) -> BadParameter:
    shown = name if len(name) <= 40 else f"{name[:37]}..."
    return BadParameter("path", f"the name {shown!a} can't be had: {problem}")


def _problem(name: str) -> str:
    """Why no picture may have *name*; empty where it may."""
    if not name or name.strip() != name or name.endswith("."):
        return "a name has no space at its ends, no dot at its end, and is not empty"
    if name.startswith("."):
        return "it is hidden"
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        return f"a name has {_LONGEST_NAME} bytes at most"
    odd = next((each for each in name if unicodedata.category(each) in _ODD or each in _UNSEEN), "")
    if odd:
        return f"it has the character U+{ord(odd):04X}, which can't be seen"
    forbidden = next((each for each in name if each in _FORBIDDEN), "")
    if forbidden:
        return f"it has the character {forbidden}"
    if _DEVICES.fullmatch(name):
        return "Windows takes it for a device"
    inner = [each.lower().strip() for each in name.split(".")[1:]]
    run = next((each for each in inner if each in _RUN), "")
    if run:
        return f"a web server may take .{run} for a program or a page"
    return ""
