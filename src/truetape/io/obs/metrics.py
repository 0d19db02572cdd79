"""Prometheus' text, made of plain counters when somebody asks: nothing is counted twice, and nothing here runs for a message.

The only file that knows prometheus_client. Next door: `app/metrics.py` has the definitions and reads the counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

LABEL_MAX = 200
"""Characters of a label's value; a name may come from a program that we did not write."""


class Definition(Struct, frozen=True):
    """A metric as it is exposed; a counter's name ends in `_total`, a histogram is told as `_bucket` with `le`, a summary by `quantile`."""

    name: str
    kind: Literal["gauge", "counter", "histogram", "summary"]
    help: str
    labels: tuple[str, ...] = ()


class Sample(Struct, frozen=True):
    """A value, or for a histogram (upper edge, how many so far) in ascending order, the last `+Inf`."""

    name: str
    labels: tuple[str, ...]
    value: float | Sequence[tuple[str, float]]


class Exposition:
    """Asks `read` at each scrape. Samples of names that are not defined are an error of ours."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, definitions: Sequence[Definition], read: Callable[[], Iterable[Sample]]) -> None:
        self._definitions = {row.name: row for row in definitions}
        self._read = read
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """What there is now, in Prometheus' text format 0.0.4."""
        return bytes(generate_latest(self._registry))

    def describe(self) -> Iterator[Metric]:
        """For the registry, which would collect at once without it."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        families: Mapping[str, Metric] = {name: _family(row) for name, row in self._definitions.items()}
        for sample in self._read():
            family = families[sample.name]
            labels = [_clean(value) for value in sample.labels]
            if isinstance(family, HistogramMetricFamily):
                assert not isinstance(sample.value, float | int), "a histogram has buckets"
                family.add_metric(labels, list(sample.value), None)
            elif isinstance(family, GaugeMetricFamily | CounterMetricFamily):
                assert isinstance(sample.value, float | int), "only a histogram has buckets"
                family.add_metric(labels, sample.value)
            else:
                assert isinstance(sample.value, float | int), "only a histogram has buckets"
                names = self._definitions[sample.name].labels
                family.add_sample(sample.name, dict(zip(names, labels, strict=True)), sample.value)
        yield from families.values()


def _family(row: Definition) -> Metric:
    if row.kind == "gauge":
        return GaugeMetricFamily(row.name, row.help, labels=row.labels)
    if row.kind == "counter":
        return CounterMetricFamily(row.name, row.help, labels=row.labels)
    if row.kind == "summary":
        return Metric(row.name, row.help, "summary")
    return HistogramMetricFamily(row.name, row.help, labels=row.labels)


def _clean(value: str) -> str:
    """What can be written as UTF-8; quotes, backslashes and line ends are escaped when the text is made."""
    return value[:LABEL_MAX].encode("utf-8", "replace").decode("utf-8")
