"""Overload: three times the renders that the server can do, asked for whatever it answers."""

from __future__ import annotations

from statistics import median

from . import servers
from .bench import Bench
from .client import Answers, Job, ask
from .cold import fresh_targets
from .rounds import Row

__all__ = ["run"]

_TIMES = 3
_CLOSED = 8  # connections that measure the peak: enough to keep every core at work


def run(bench: Bench) -> None:
    """The peak, the overload, and the seconds right after it, on one server with default settings."""
    folder = bench.stage.new_folder("overload")
    server = servers.ours(bench.stage, "waitress", servers.write_config(folder, bench.pictures.folder))
    targets = list(fresh_targets(bench))
    used = 0

    def asked(job: Job) -> Answers:
        nonlocal used
        answers = ask(job)
        used += len(answers.samples) + answers.unsent
        return answers

    window = bench.pick(1.5, 5.0)
    asked(Job(server.ports, targets[used : used + 500], _CLOSED, 0.5))
    peak = asked(Job(server.ports, targets[used : used + 4000], _CLOSED, window))
    rate, seconds = _TIMES * peak.per_second, bench.pick(4.0, 60.0)
    count = int(rate * seconds) + 1
    bench.say(f"  peak {peak.per_second:.0f} renders/s; {rate:.0f}/s are asked for {seconds:.0f} s")
    flood = asked(Job(server.ports, targets[used : used + count], rate=rate, seconds=seconds))
    after = asked(Job(server.ports, targets[used : used + 4000], _CLOSED, window))
    bench.stage.stop(server)

    refused = [sample for sample in flood.samples if sample.status == 503]
    wrong = [
        s for s in flood.samples if s.status not in (200, 503) or (s.status == 503 and not s.retry_after)
    ]
    goodput = [flood.per_second / peak.per_second, after.per_second / peak.per_second]
    for name, part, ours in (
        ("three times the capacity", goodput[0], flood.per_second),
        ("right after", goodput[1], after.per_second),
    ):
        bench.add(
            Row("overload, goodput", name, "peak", part, part, part, ours, peak.per_second, "renders/s", 0.85)
        )
    for name, found, of in (
        ("neither 200 nor 503 with Retry-After", len(wrong), len(flood.samples)),
        ("not 200 right after", len(after.samples) - after.statuses[200], len(after.samples)),
        ("never sent, by our own client", flood.unsent, len(flood.samples)),
    ):
        part = found / of
        bench.add(Row("overload, answers", name, "all", part, part, part, found, of, "answers", at_most=0.0))
    details = bench.details["overload"] = {
        "asked_per_second": rate,
        "statuses": dict(flood.statuses),
        "refused_p50_s": median(s.seconds for s in refused) if refused else None,
        "refused_p99_s": flood.latency(0.99, 503) if refused else None,
        "made_p99_s": flood.latency(0.99),
    }
    if refused:
        waits = (flood.latency(0.5, 503) * 1000, flood.latency(0.99, 503) * 1000, flood.latency(0.5) * 1000)
        share = waits[1] / waits[2]
        bench.add(
            Row("overload, p99 of 503", "503", "p50 of 200", share, share, share, waits[1], waits[2], "ms")
        )
    bench.say(f"  {details}")
