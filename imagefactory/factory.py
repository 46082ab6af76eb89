"""Assembly: a ``Config`` becomes the parts of a site, each made once and given what it needs.

The doors, the commands and the helpers for pages take the parts that they use. Nothing on disk is touched and
no process is started before the first use.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .catalog.database import Database
from .catalog.jobs import JobRows
from .catalog.pictures import PictureRows
from .common.cores import cores
from .config import Config
from .engine.counters import Counters
from .engine.finder import Finder
from .engine.gate import Gate, Hashing
from .engine.generator import Generator
from .engine.health import Health
from .engine.identify import Identifier, read_source
from .engine.made import unstored_header, with_header
from .engine.maker import Maker
from .engine.posted import Lent, PostedPictures
from .engine.resolve import Resolver
from .errors import RequestError
from .model.job import Renderer
from .model.program import Run
from .model.source import Header, Source
from .storage.disk import DiskStore
from .storage.memory import MemoryStore
from .storage.originals import Originals
from .storage.protocols import SourceRows, Sources, Store
from .tasks.presets import PresetsKind
from .tasks.syncing import SyncKind
from .tasks.worker import Workers
from .upkeep.keeper import Keeper
from .upkeep.purge.disk_remover import DiskRemover
from .upkeep.purge.memory_remover import MemoryRemover
from .upkeep.purge.purger import Purger
from .uploads.intake import Intake
from .urls.access import Access
from .urls.query import Request
from .workers.rendering import InThread, open_renderer, slots

__all__ = ["Parts", "Site", "Taking", "assemble", "open_disk", "open_purger", "open_sources", "site_of"]

# Threads of a server that are never taken by requests that render, queue or follow: they answer hits.
_FREE_THREADS = 8


@dataclass(frozen=True, slots=True)
class Site:
    """What *config* says of its URLs: which pictures there are, what a query means, what must be signed. It
    has no cache. *clock* gives unix seconds."""

    config: Config
    clock: Callable[[], float]
    sources: Sources
    resolver: Resolver
    access: Access

    @property
    def has_placeholders(self) -> bool:
        """Whether a source may have a placeholder one day: renders make them."""
        return False

    def source(self, path: str) -> Source:
        """What the source at *path* is: here it is hashed and its header read, in this process. Raises as
        ``Identifier.source``."""

        def read_header(source: Source, name: str) -> Header:
            return self._header(source, self.resolver.programs.plain_run(name))

        programs = self.resolver.programs
        return read_source(self.sources, InThread(), programs, read_header, path, self.clock())

    def fitted(self, source: Source, request: Request) -> tuple[Source, Request]:
        """See ``Maker.fitted``."""
        request = self.resolver.fitted(source, request)
        run = request.recipe.run
        if run is not None and self.resolver.programs.has_own_size(run):
            source = with_header(source, self._header(source, run))
        return source, request

    def _header(self, source: Source, run: Run) -> Header:
        return unstored_header(self.sources, InThread(), self.resolver, source, run)


@dataclass(slots=True)
class Taking:
    """What takes pictures in and works in the background, where there is a catalog. *markup* is what stands
    in a page for the picture at a path; doors that have templates set it."""

    database: Database
    pictures: PictureRows
    jobs: JobRows
    workers: Workers
    sync: SyncKind
    intake: Intake
    posted: PostedPictures
    markup: Callable[[str], str] = field(default=lambda path: "")
    process: int = 0  # that began

    def look(self) -> None:
        """What a server process does beside requests, to be called now and then: work, and at its start have
        the catalog brought to the folder."""
        if self.process != os.getpid():
            try:
                self.jobs.enqueue([("sync", "")])
            except RequestError:  # it is in the log, and tried again
                return
            self.process = os.getpid()
        self.workers.start()


@dataclass(frozen=True, slots=True)
class Parts(Site):
    """All parts of a site with its cache. *disk* is its *store* where that lies on the disk, else None;
    *taking* is None without a catalog."""

    store: Store
    disk: DiskStore | None
    renderer: Renderer
    counters: Counters
    health: Health
    identifier: Identifier
    finder: Finder
    maker: Maker
    generator: Generator
    keeper: Keeper
    purger: Purger
    taking: Taking | None = None

    @property
    def has_placeholders(self) -> bool:
        return True

    def source(self, path: str) -> Source:
        """What is known of the source at *path*; see ``Identifier.source``."""
        return self.identifier.source(path)

    def fitted(self, source: Source, request: Request) -> tuple[Source, Request]:
        """See ``Maker.fitted``."""
        return self.maker.fitted(source, request)


def site_of(config: Config, clock: Callable[[], float] = time.time) -> Site:
    """The site without its cache. Raises ConfigError for a preset with a mistake."""
    return Site(config, clock, open_sources(config), Resolver(config), Access(config))


def assemble(
    config: Config,
    renderer: Renderer | None = None,
    clock: Callable[[], float] = time.time,
    store: DiskStore | MemoryStore | None = None,
) -> Parts:
    """All parts of *config*, with *renderer* and *store* instead of those that it asks for: several sites may
    share a store. Raises ConfigError for a preset with a mistake."""
    site = site_of(config, clock)
    site.resolver.programs.check()
    renderer = renderer or open_renderer(config.render)
    store = store or open_store(config)
    disk = store if isinstance(store, DiskStore) else None
    timeout_s = config.render.timeout_s
    counters, health = Counters(), Health(store, clock)
    places = max(1, config.server.threads - _FREE_THREADS)
    gate = Gate(slots(config.render), config.render.queue, places)
    hashing = Hashing(max(1, cores() // 2), max(1, places // 4), timeout_s)
    counters.meters += [gate.gauges, health.gauges]
    keeper = Keeper(store, disk, counters, health, clock)

    def read_header(source: Source, name: str) -> Header:
        return maker.header(source, site.resolver.programs.plain_run(name))

    def identifier_of(sources: Sources, rows: SourceRows) -> Identifier:
        return Identifier(
            sources,
            rows,
            renderer,
            site.resolver.programs,
            read_header,
            gate,
            hashing,
            health,
            clock,
            timeout_s,
        )

    identifier = identifier_of(site.sources, store.index.sources)
    finder = Finder(
        site.sources,
        store,
        health,
        hashing,
        may_give_originals=site.access.has_originals,
    )

    def maker_of(sources: Sources, identifier: Identifier) -> Maker:
        return Maker(
            config,
            renderer,
            sources,
            store,
            finder,
            identifier,
            site.resolver,
            gate,
            counters,
            health,
            keeper,
        )

    maker = maker_of(site.sources, identifier)

    def start() -> None:
        store.start()
        if taking is not None:
            taking.intake.receiver.sweep()

    generator = Generator(identifier, site.resolver, finder, maker, start)

    def prepare() -> None:
        generator.start()
        keeper.flush()  # the last use of each variant, as far as this process knows

    taking: Taking | None = None
    if config.has_catalog:
        lent = Lent()
        of_lent = identifier_of(lent, MemoryStore(1).index.sources)
        posted = PostedPictures(
            lent,
            renderer,
            gate,
            timeout_s,
            site.resolver,
            finder,
            maker_of(lent, of_lent),
            generator.start_once,
        )
        taking = _taking(site, renderer, gate, generator, maker, identifier, posted, counters)
    return Parts(
        config,
        clock,
        site.sources,
        site.resolver,
        site.access,
        store,
        disk,
        renderer,
        counters,
        health,
        identifier,
        finder,
        maker,
        generator,
        keeper,
        open_purger(config, store, site.sources, clock, prepare),
        taking,
    )


def _taking(
    site: Site,
    renderer: Renderer,
    gate: Gate,
    generator: Generator,
    maker: Maker,
    identifier: Identifier,
    posted: PostedPictures,
    counters: Counters,
) -> Taking:
    config = site.config
    database = Database(config)
    pictures, jobs = PictureRows(database), JobRows(database, site.clock)

    def markup(path: str) -> str:
        return taking.markup(path)

    presets = PresetsKind(generator, site.resolver, identifier, maker, config.uploads.presets, markup)
    sync = SyncKind(site.sources, identifier, pictures, jobs, site.clock)
    workers = Workers(jobs, {"presets": presets, "sync": sync}, config.tasks, counters)

    @contextmanager
    def turn() -> Iterator[None]:
        with gate.enter(), gate.render(config.render.timeout_s):
            yield

    intake = Intake(config, database, pictures, jobs, site.sources, renderer, turn, workers.wake, site.clock)
    taking = Taking(database, pictures, jobs, workers, sync, intake, posted)
    return taking


def open_sources(config: Config) -> Originals:
    """The pictures of *config*."""
    paths = config.paths
    return Originals(paths.pictures, config.limits.max_source_bytes, paths.follow_links, paths.link_roots)


def open_store(config: Config) -> DiskStore | MemoryStore:
    """The cache that *config* asks for."""
    return MemoryStore(config.cache.memory_bytes) if config.cache.mode == "memory" else open_disk(config)


def open_disk(config: Config) -> DiskStore:
    """The cache of *config* on the disk."""
    return DiskStore(
        config.paths.cache,
        config.cache.max_bytes,
        config.cache.min_free,
        config.limits.variants_per_source,
    )


def open_purger(
    config: Config,
    store: DiskStore | MemoryStore,
    sources: Sources,
    clock: Callable[[], float] = time.time,
    prepare: Callable[[], object] = lambda: None,
) -> Purger:
    """What removes variants of *store* on command; *prepare* is called before."""
    remover = DiskRemover(store) if isinstance(store, DiskStore) else MemoryRemover(store)
    return Purger(config, remover, store.index.sources, store.notices, sources, clock, prepare)
