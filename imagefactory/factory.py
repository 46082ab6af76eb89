"""Assembly: a ``Config`` becomes the parts of a site, each made once and given what it needs.

The doors, the commands and the helpers for pages take the parts that they use. Nothing on disk is touched and
no process is started before the first use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

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
from .engine.resolve import Resolver
from .model.job import Renderer
from .model.program import Run
from .model.source import Header, Source
from .storage.disk import DiskStore
from .storage.memory import MemoryStore
from .storage.originals import Originals
from .storage.protocols import Sources, Store
from .upkeep.keeper import Keeper
from .upkeep.purge.disk_remover import DiskRemover
from .upkeep.purge.memory_remover import MemoryRemover
from .upkeep.purge.purger import Purger
from .urls.access import Access
from .urls.query import Request
from .workers.rendering import InThread, open_renderer, slots

__all__ = ["Parts", "Site", "assemble", "open_disk", "open_purger", "open_sources", "site_of"]

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


@dataclass(frozen=True, slots=True)
class Parts(Site):
    """All parts of a site with its cache. *disk* is its *store* where that lies on the disk, else None."""

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

    identifier = Identifier(
        site.sources,
        store.index.sources,
        renderer,
        site.resolver.programs,
        read_header,
        gate,
        hashing,
        health,
        clock,
        timeout_s,
    )
    finder = Finder(
        site.sources,
        store,
        health,
        hashing,
        may_give_originals=site.access.has_originals,
    )
    maker = Maker(
        config,
        renderer,
        site.sources,
        store,
        finder,
        identifier,
        site.resolver,
        gate,
        counters,
        health,
        keeper,
    )
    generator = Generator(identifier, site.resolver, finder, maker, store.start)

    def prepare() -> None:
        generator.start()
        keeper.flush()  # the last use of each variant, as far as this process knows

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
    )


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
