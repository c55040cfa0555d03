"""Load runs one after the other, and what they come to."""

import math
import statistics
import sys
from typing import NamedTuple

from tests.bench import load, traffic, watch

BARE = "bare Flask"
CONNECTIONS = 32


class Run(NamedTuple):
    """One run: things a second, what each took, and what share of a core each process had."""

    name: str
    rate: float
    milliseconds: list
    shares: dict
    connections: list
    refused: int


class Runs:
    """All runs in their order, so that each has a run of the yardstick before and after it."""

    def __init__(self, world, seconds):
        self.world, self.seconds = world, seconds
        self.all = []

    def bare(self):
        self.load(BARE, self.world.bare, traffic.events)

    def load(self, name, place, source, size=1, connections=CONNECTIONS):
        """Load a place with requests of `source(website, key)`, each of `size` things."""
        self.load_with(place, {name: load.Group(connections, source(place.website, place.key))}, size)

    def load_with(self, place, groups, size=1):
        """Load a place with several named groups of connections at once, and wait until the warehouse has it all."""
        meter = watch.Meter(place.server)
        load.run(place.server.port, *groups.values(), seconds=self.seconds, meter=meter)
        shares = {kind: spent / self.seconds for kind, spent in meter.cpu.items()}
        for name, group in groups.items():
            rate = len(group.milliseconds) * size / self.seconds
            refused = sum(number for status, number in group.statuses.items() if status >= 300)
            self.all.append(Run(name, rate, group.milliseconds, shares, meter.connections, refused))
            say(f"{name}: {rate:,.0f} a second")
            if place.keeps:
                self.world.accepted[place.website] += group.statuses[202] * size
        self.world.settle()

    def row(self, name):
        """What the runs of this name come to."""
        runs = [run for run in self.all if run.name == name]
        rates = [run.rate for run in runs]
        web = sum(share for run in runs for kind, share in run.shares.items() if kind.startswith("web"))
        refused = sum(run.refused for run in runs)
        return {
            "name": name,
            "rate": statistics.median(rates),
            "rates": rates,
            "milliseconds": percentiles([spent for run in runs for spent in run.milliseconds]),
            "of bare": self.ratio(name, BARE),
            "cpu": 1000 * web / sum(rates),
            "remarks": f"{refused} refused" if refused else "",
        }

    def ratio(self, name, other):
        """How many times as fast as another: the median over the runs, each beside the other's nearest."""
        return statistics.median(
            run.rate / statistics.mean(self._nearest(index, other))
            for index, run in enumerate(self.all)
            if run.name == name
        )

    def _nearest(self, index, name):
        before = [run.rate for run in self.all[:index] if run.name == name]
        after = [run.rate for run in self.all[index:] if run.name == name]
        return before[-1:] + after[:1]


def percentiles(values):
    """(p50, p95, p99) of some values: the least of them that such a share does not exceed."""
    ordered = sorted(values)
    return [ordered[math.ceil(len(ordered) * share) - 1] for share in (0.5, 0.95, 0.99)]


def say(words):
    """Tell whoever waits how far it is."""
    print(words, file=sys.stderr, flush=True)
