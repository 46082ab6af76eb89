"""The object store: a body is there whole or not at all, under a name that says what it is."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagefactory.errors import StorageError
from imagefactory.model.job import Rendered
from imagefactory.model.variant import Key, Variant
from imagefactory.storage.objects import DiskObjects
from imagefactory.storage.temp_files import TempFiles

KEY = Key("ab" * 32, "v1-100x75-q80", "jpeg")
BODY = bytes(range(256)) * 4


@pytest.fixture
def objects(tmp_path: Path) -> DiskObjects:
    return DiskObjects(tmp_path / "cache" / "objects")


def temps_of(objects: DiskObjects) -> TempFiles:
    """The temporary files beside *objects*."""
    return TempFiles(objects.root.parent / "tmp")


def publish(objects: DiskObjects, key: Key = KEY, body: bytes = BODY) -> Variant:
    with temps_of(objects).create() as temp:
        os.write(temp.number, body)
        return objects.publish(temp, key, Rendered(100, 75))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- names ------------------------------------------------------------------------------------------------


def test_the_path_says_source_recipe_encoding_and_body(objects: DiskObjects) -> None:
    publish(objects)
    digest = hashlib.sha256(BODY).hexdigest()
    (path,) = objects.walk()
    name = f"objects/ab/{'ab' * 32}/v1-100x75-q80.{digest[:32]}.jpg"
    assert path.relative_to(objects.root.parent).as_posix() == name
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    "encoding, suffix", [("jpeg", "jpg"), ("png", "png"), ("webp", "webp"), ("avif", "avif")]
)
def test_an_object_has_the_suffix_of_its_encoding(objects: DiskObjects, encoding: str, suffix: str) -> None:
    assert objects.name(Key("cd" * 32, "v1-1x1", encoding), "ef" * 32) == (
        f"cd/{'cd' * 32}/v1-1x1.{'ef' * 16}.{suffix}"
    )


def test_the_longest_recipe_fits_into_a_file_name(objects: DiskObjects) -> None:
    assert objects.has(publish(objects, Key("ab" * 32, "v" * 180, "jpeg")))


def test_publishing_tells_digest_and_length_of_what_was_written(objects: DiskObjects) -> None:
    assert publish(objects) == Variant(KEY, hashlib.sha256(BODY).hexdigest(), len(BODY), 100, 75)


# --- modes ------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_web_server_of_the_group_may_read_objects_and_nobody_else_anything(
    objects: DiskObjects, umask: int
) -> None:
    publish(objects)
    (path,) = objects.walk()
    assert mode(path) == 0o640
    assert [mode(folder) for folder in path.parents[:3]] == [0o750] * 3
    assert objects.root == path.parents[2]
    assert mode(temps_of(objects).folder) == 0o700


def test_a_file_that_is_being_written_is_its_owners_alone(objects: DiskObjects, umask: int) -> None:
    with temps_of(objects).create() as temp:
        assert mode(temp.path) == 0o600


def test_nobody_else_may_write_into_the_cache_folder_itself(objects: DiskObjects) -> None:
    before = os.umask(0o000)
    try:
        publish(objects)
    finally:
        os.umask(before)
    assert mode(objects.root.parent) & 0o022 == 0


def test_the_group_can_reach_the_objects_through_the_cache_folder(objects: DiskObjects) -> None:
    before = os.umask(0o077)
    try:
        publish(objects)
    finally:
        os.umask(before)
    assert mode(objects.root.parent) & 0o010


# --- atomic ------------------------------------------------------------------------------------------------


def test_an_object_appears_whole_or_not_at_all(objects: DiskObjects) -> None:
    """A reader who looks all the time sees one of two bodies under a name, never a part."""
    sizes: set[int] = set()
    done = threading.Event()
    bodies = [bytes([number]) * 300_000 for number in range(20)]

    def look() -> None:
        while not done.is_set():
            for path in objects.walk():
                sizes.add(path.stat().st_size)

    watcher = threading.Thread(target=look)
    watcher.start()
    for body in bodies:
        publish(objects, body=body)
    done.set()
    watcher.join()
    assert sizes <= {300_000}


def test_the_same_body_published_again_replaces_the_file(objects: DiskObjects) -> None:
    publish(objects)
    (before,) = objects.walk()
    inode = before.stat().st_ino
    with before.open("rb") as reader:  # somebody sends the old file at this moment
        publish(objects)
        assert reader.read() == BODY
    (after,) = objects.walk()
    assert after == before
    assert after.stat().st_ino != inode


class Interrupt(BaseException):
    """What is no Exception, as KeyboardInterrupt."""


@pytest.mark.parametrize("kind", [RuntimeError, OSError, StorageError, Interrupt])
def test_no_file_is_left_when_a_render_fails(objects: DiskObjects, kind: type[BaseException]) -> None:
    error = kind("objects", "full") if kind is StorageError else kind("a render failed")
    with pytest.raises(kind), temps_of(objects).create() as temp:
        os.write(temp.number, BODY)
        raise error
    assert list(temps_of(objects).folder.iterdir()) == []
    assert list(objects.walk()) == []


def test_no_file_is_left_when_nothing_is_published(objects: DiskObjects) -> None:
    with temps_of(objects).create() as temp:
        os.write(temp.number, BODY)
        assert temp.read() == BODY
    assert list(temps_of(objects).folder.iterdir()) == []


def test_no_descriptor_is_left_open(objects: DiskObjects) -> None:
    publish(objects)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    for _ in range(20):
        objects.has(publish(objects))
        with pytest.raises(RuntimeError), temps_of(objects).create():
            raise RuntimeError
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after == before


@pytest.mark.parametrize("blocked", ["tmp", "objects", "objects/ab", f"objects/ab/{'ab' * 32}"])
def test_a_file_where_a_folder_should_be_is_a_storage_error(objects: DiskObjects, blocked: str) -> None:
    path = objects.root.parent / blocked
    path.parent.mkdir(parents=True)
    path.write_text("in the way")
    with pytest.raises(StorageError):
        publish(objects)
    if blocked != "tmp":
        assert list(temps_of(objects).folder.iterdir()) == []
    assert path.read_text() == "in the way"


# --- soundness ---------------------------------------------------------------------------------------------


def test_every_single_altered_byte_is_seen(objects: DiskObjects) -> None:
    body = bytes(range(200))
    variant = publish(objects, body=body)
    (path,) = objects.walk()
    for position in range(len(body)):
        harmed = bytearray(body)
        harmed[position] ^= 0x10
        path.write_bytes(harmed)
        assert not DiskObjects(objects.root).has(variant)
    path.write_bytes(body)
    assert DiskObjects(objects.root).has(variant)


@pytest.mark.parametrize(
    "data", [b"", BODY[:-1], BODY + b"\0", BODY[:-1] + b"\0"], ids=["empty", "cut", "long", "flip"]
)
def test_an_object_harmed_after_it_was_hashed_is_seen(objects: DiskObjects, data: bytes) -> None:
    variant = publish(objects)
    (path,) = objects.walk()
    assert objects.has(variant)
    path.write_bytes(data)
    os.utime(path, (1, 1))
    assert not objects.has(variant)


def test_an_object_is_hashed_once_by_a_process(objects: DiskObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = publish(objects)
    assert objects.has(variant)
    (path,) = objects.walk()
    status = path.stat()
    path.write_bytes(BODY[:-1] + b"\0")  # the proof that it is not read: this would be seen
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert objects.has(variant)


def test_an_object_that_is_gone_is_not_sound(objects: DiskObjects) -> None:
    variant = publish(objects)
    assert objects.has(variant)
    objects.remove(KEY, variant.body)
    assert not objects.has(variant)


def test_a_folder_in_the_place_of_an_object_is_a_storage_error(objects: DiskObjects) -> None:
    variant = publish(objects)
    (path,) = objects.walk()
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match="can't be read"):
        objects.has(variant)


# --- removing ----------------------------------------------------------------------------------------------


def test_the_last_object_of_a_source_takes_its_folder_along(objects: DiskObjects) -> None:
    first = publish(objects)
    second = publish(objects, Key(KEY.digest, "v1-50x38-q80", "jpeg"))
    folder = objects.root / "ab" / KEY.digest
    objects.remove(first.key, first.body)
    assert folder.is_dir()
    objects.remove(second.key, second.body)
    assert not folder.exists()
    objects.remove(second.key, second.body)  # gone already: no error
    assert objects.has(publish(objects))


def test_a_purge_that_takes_the_empty_folder_away_does_not_fail_a_publish(
    objects: DiskObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, calls = objects._make_folder, []

    def make_and_lose(folder: Path) -> None:
        make(folder)
        if folder.name == KEY.digest:
            calls.append(folder)
            if len(calls) < 3:
                objects.remove(KEY, "00" * 32)
                assert not folder.exists()

    monkeypatch.setattr(objects, "_make_folder", make_and_lose)
    assert objects.has(publish(objects))
    assert len(calls) == 3


# --- sweeping ----------------------------------------------------------------------------------------------


def test_a_sweep_takes_what_has_no_writer_and_nothing_else(objects: DiskObjects, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("not ours")
    with temps_of(objects).create() as temp:
        os.write(temp.number, BODY)
        (temps_of(objects).folder / "abandoned").write_bytes(b"half a picture")
        (temps_of(objects).folder / "link").symlink_to(outside)
        (temps_of(objects).folder / "damaged-index").mkdir()
        os.mkfifo(temps_of(objects).folder / "pipe")
        assert temps_of(objects).sweep() == 1
        assert sorted(path.name for path in temps_of(objects).folder.iterdir()) == sorted(
            [temp.path.name, "damaged-index", "link", "pipe"]
        )
        assert objects.has(objects.publish(temp, KEY, Rendered(1, 1)))
    assert outside.read_text() == "not ours"


def test_a_sweep_of_another_process_spares_a_file_that_is_being_written(objects: DiskObjects) -> None:
    code = (
        "import sys; from pathlib import Path; from imagefactory.storage.temp_files import TempFiles;"
        "print(TempFiles(Path(sys.argv[1], 'tmp')).sweep())"
    )
    command = [sys.executable, "-c", code, str(objects.root.parent)]
    with temps_of(objects).create() as temp:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "0"
        assert temp.path.exists()


def test_what_a_killed_writer_left_is_swept(objects: DiskObjects) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from imagefactory.storage.temp_files import TempFiles\n"
        "with TempFiles(Path(sys.argv[1], 'tmp')).create() as temp:\n"
        "    os.write(temp.number, b'half a picture')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(objects.root.parent)], check=False)
    assert len(list(temps_of(objects).folder.iterdir())) == 1
    assert temps_of(objects).sweep() == 1
    assert list(temps_of(objects).folder.iterdir()) == []


def test_a_sweep_without_a_folder_finds_nothing(objects: DiskObjects) -> None:
    assert temps_of(objects).sweep() == 0
    assert not objects.root.parent.exists()


def test_a_file_is_locked_from_its_first_moment(objects: DiskObjects) -> None:
    """Files made while somebody sweeps all the time are never taken away under their writer."""
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            temps_of(objects).sweep()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(300):
            with temps_of(objects).create() as temp:
                assert os.fstat(temp.number).st_nlink == 1
                with temp.path.open("rb") as other, pytest.raises(BlockingIOError):
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        done.set()
        sweeper.join()
