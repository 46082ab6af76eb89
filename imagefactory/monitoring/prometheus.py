"""The numbers of a server as Prometheus reads them: the text of ``/metrics``.

All names begin with ``imagefactory_``, units are seconds and
bytes, and labels have few values: encodings, results, statuses, phases; never a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine.counters import BUCKETS_S
from ..errors import MissingExtra
from ..upkeep.stats import answered
from ..version import __version__
from .numbers import Reading

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["CONTENT_TYPE", "exposition"]

# The text format that every version of Prometheus reads; our names need no newer one.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PARTS = ("budget", "claims", "index", "objects")
# Counters of the index with one label: first word -> metric, help.
_BY_ENCODING = {
    "bytes_sent": ("sent_bytes", "Bytes of pictures sent, of variants and of originals."),
    "bytes_of_variants": ("variant_bytes", "Bytes of the variants that were sent whole."),
    "bytes_of_sources": (
        "source_bytes",
        "Bytes of the originals of the variants that were sent whole: what would have been sent without us.",
    ),
}
# Name, help, labels; in the index as words in this order. Those with one label have "-" for the second.
_HISTOGRAMS = (
    (
        "render_seconds",
        "Time of renders by phase; the phase wait is the queue, and each render has one.",
        ["phase", "encoding"],
    ),
    (
        "program_seconds",
        "Time of the runs of external programs that made something: wall (run) and processor time (cpu).",
        ["program", "phase"],
    ),
    ("upload_seconds", "Time of uploads that were answered: one file (put), or a form.", ["method"]),
    ("job_seconds", "Time of pieces of background work.", ["kind"]),
)
_PLAIN = {
    "evicted variants": ("evicted_variants", "Variants removed to stay within the budget."),
    "evicted bytes": ("evicted_bytes", "Bytes of the variants removed to stay within the budget."),
    "program_failed_late": (
        "program_failed_late",
        "Answers that were cut off, as their program failed when a part of them had been sent.",
    ),
    "bypasses budget": ("budget_bypasses", "Variants that were not stored, as there was no room."),
    "upload_bytes": ("upload_bytes", "Bytes of the pictures that were taken in, as they came."),
}
# Those with labels that are words of the counter: first word -> help, labels.
_LABELLED = {
    "program_runs": (
        "Runs of external programs: ok, failed (no picture came of it) or stopped (over its time, killed).",
        ["program", "result"],
    ),
    "uploads": ("Pictures that were sent: stored, present (were there), replaced or failed.", ["result"]),
    "upload_rejected": ("Why pictures that were sent were not taken: codes of errors.", ["reason"]),
    "jobs_finished": ("Pieces of background work: done, failed or retried.", ["kind", "result"]),
}


class _Family(NamedTuple):
    """A counter or gauge: its name without the prefix, its help, and (values of its labels, value) pairs."""

    name: str
    text: str
    samples: Sequence[tuple[Sequence[str], float]]
    labels: Sequence[str] = ()


def exposition(reading: Reading) -> bytes:
    """The metrics of *reading*, in the text format 0.0.4. Raises MissingExtra without prometheus_client."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.metrics_core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )
    except ImportError as error:
        raise MissingExtra("metrics") from error

    def filled(
        kind: type[CounterMetricFamily | GaugeMetricFamily], families: Iterable[_Family]
    ) -> Iterator[Metric]:
        for family in families:
            metric = kind(f"imagefactory_{family.name}", family.text, labels=family.labels)
            for labels, value in family.samples:
                metric.add_metric(labels, value)
            yield metric

    class Collector:
        def collect(self) -> Iterator[Metric]:
            build = _Family("build_info", "The version; always 1.", [([__version__], 1)], ["version"])
            yield from filled(GaugeMetricFamily, [build])
            yield from filled(CounterMetricFamily, _counters(reading))
            for name, text, labels in _HISTOGRAMS:
                histogram = HistogramMetricFamily(f"imagefactory_{name}", text, labels=labels)
                for values, buckets in sorted(_histograms(reading.counters, name).items()):
                    histogram.add_metric(values[: len(labels)], *_cumulated(buckets))
                yield histogram
            yield from filled(GaugeMetricFamily, _gauges(reading))

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry)


def _counters(reading: Reading) -> Iterator[_Family]:
    requests = _named(reading.counters, "requests", 4)
    yield _Family(
        "requests",
        "Answers by result: hit, coalesced, miss, bypass, original, explain, options, purge or error.",
        [((words[1], words[2] if words[2] != "-" else "", words[3]), count) for words, count in requests],
        ["result", "encoding", "status"],
    )
    sums = answered(reading.counters)
    for name, text, count in (
        ("cache_hits", "Variants handed out without a render: hit and coalesced.", sums.hits),
        ("cache_misses", "Variants that were rendered for their visitor: miss and bypass.", sums.misses),
    ):
        yield _Family(name, text, [((), count)])
    for word, (name, text) in _BY_ENCODING.items():
        samples = [(words[1:], count) for words, count in _named(reading.counters, word, 2)]
        yield _Family(name, text, samples, ["encoding"])
    for name, (text, labels) in _LABELLED.items():
        found = [(words[1:], count) for words, count in _named(reading.counters, name, 1 + len(labels))]
        yield _Family(name, text, found, labels)
    for counted, (name, text) in _PLAIN.items():
        yield _Family(name, text, [((), reading.counters.get(counted, 0))])


def _gauges(reading: Reading) -> Iterator[_Family]:
    def gauge(name: str, text: str, value: float) -> _Family:
        return _Family(name, text, [((), value)])

    gauges = reading.gauges
    yield gauge("renders_waiting", "Renders that wait for their turn.", gauges.get("renders_waiting", 0))
    yield gauge("renders_running", "Renders under way.", gauges.get("renders_running", 0))
    yield gauge("processes", "Server processes that use the cache.", reading.processes)
    yield gauge("cache_variants", "Variants in the cache.", reading.variants)
    yield gauge("cache_bytes", "Bytes of the variants in the cache.", reading.bytes)
    yield gauge("cache_max_bytes", "The budget of the config.", reading.max_bytes)
    yield gauge("cache_capacity_bytes", "The budget, or less where the disk is full.", reading.capacity)
    if reading.free is not None:
        yield gauge("disk_free_bytes", "Bytes that the disk of the cache has left.", reading.free)
    yield gauge("memo_bytes", "Bytes of answers kept in memory.", gauges.get("memo_bytes", 0))
    yield gauge("memo_entries", "Answers kept in memory.", gauges.get("memo_entries", 0))
    yield gauge("uploads_in_progress", "Uploads under way.", gauges.get("uploads_in_progress", 0))
    jobs = [((state,), count) for state, count in sorted(reading.jobs.items())]
    yield _Family("jobs", "Pieces of background work in the catalog.", jobs, ["state"])
    parts = [((part,), float(part in reading.troubles)) for part in _PARTS]
    yield _Family("trouble", "1 while this part of the cache fails.", parts, ["part"])
    yield gauge("index_readable", "0: the index can't be read, and these are old counts.", reading.is_fresh)


def _named(counters: Mapping[str, float], first: str, length: int) -> list[tuple[list[str], float]]:
    """The words and counts of those whose name begins with the word *first* and has *length* words."""
    found = [(name.split(" "), count) for name, count in sorted(counters.items())]
    return [(words, count) for words, count in found if words[0] == first and len(words) == length]


def _histograms(counters: Mapping[str, float], name: str) -> dict[tuple[str, str], dict[str, float]]:
    """Sum and buckets of the histogram *name*, by its two labels."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for words, count in _named(counters, name, 4):
        found.setdefault((words[1], words[2]), {})[words[3]] = count
    return found


def _cumulated(values: Mapping[str, float]) -> tuple[Any, float]:
    """(bound, count of all up to it) for each bucket, and the sum of the seconds."""
    buckets, total = [], 0.0
    for bound in (*map(str, BUCKETS_S), "+Inf"):
        total += values.get(bound, 0)
        buckets.append((bound, total))
    return buckets, values.get("sum", 0)
