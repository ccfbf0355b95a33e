"""The plain roofline of a run: work / peak or bytes / bandwidth, whichever is larger, and nothing else.

Weights are read once a step and keys and values once a query; no operator starts, no collective
takes time, every byte streams at the peak bandwidth.
"""

from functools import cached_property
from typing import TYPE_CHECKING

from pentarch.evaluate.batches import describe
from pentarch.graph.flops import decode_flops, kv_bytes_at, prefill_flops
from pentarch.mapping.arithmetic import resolve
from pentarch.validation.runs import Deployment, RunRow, Values, figures
from pentarch.workload.parameters import parameters
from pentarch.workload.query import Query

if TYPE_CHECKING:
    from pentarch.catalog import Library


class RunRoofline:
    """The roofline of one deployment.

    Args:
        deployment: What ran.
        library: Resolves names.
    """

    def __init__(self, deployment: Deployment, library: "Library") -> None:
        self._deployment = deployment
        self._workload = library.workload(deployment.workload)
        device = library.device(deployment.device)
        self._machine = describe(library.backend_of(device), device, 1)
        self._group = deployment.tensor * deployment.pipeline
        self._query = Query(
            prompt_tokens=deployment.prompt_tokens, output_tokens=deployment.output_tokens
        )

    @cached_property
    def flops_per_s(self) -> float | None:
        """Peak of a group of devices; `None` when it cannot multiply the formats."""
        formats = self._deployment.precisions
        product = resolve(self._machine, formats.activations, formats.weights)
        if product is None:
            return None
        return 2.0 * float(product.peak_macs_per_s[0]) * self._group

    @cached_property
    def bytes_per_s(self) -> float:
        """Peak memory bandwidth of a group of devices."""
        memory = self._machine.levels[0]
        return float((memory.instances * memory.read_bytes_per_s)[0]) * self._group

    def figures(self, load: int) -> Values | None:
        """Return every figure that a benchmark may report, `None` without a peak.

        Args:
            load: Queries in flight over all groups.
        """
        if self.flops_per_s is None:
            return None
        deployment, query = self._deployment, self._query
        groups = max(deployment.devices // self._group, 1)
        each = max(load / groups, 1.0)
        counts, steps = parameters(self._workload), query.decode_steps
        word = deployment.precisions.of("weights").bytes
        context = query.prompt_tokens + max(steps, 1) // 2
        cached = kv_bytes_at(self._workload, context=context, kv_format=deployment.precisions.kv)
        prefill_s = max(
            float(prefill_flops(self._workload, query)) / self.flops_per_s,
            counts.active * word / self.bytes_per_s,
        )
        decode_s = 0.0
        if steps:
            read = min(counts.total, counts.active * each) * word + each * cached
            work = float(decode_flops(self._workload, query)) / steps * each
            decode_s = max(work / self.flops_per_s, read / self.bytes_per_s)
        query_s = each * prefill_s + steps * decode_s
        waits = (each - 1.0) * prefill_s / query.output_tokens
        found = {
            "ttft_s": prefill_s + waits, "tpot_s": decode_s + waits, "query_s": query_s,
            "throughput_tokens_per_s": groups * each * query.output_tokens / query_s,
        }  # fmt: skip
        return figures(found, deployment, load=load, prefill_s=prefill_s)


def run_roofline(row: RunRow, library: "Library") -> float | None:
    """Return the plain roofline of a measured run, `None` where its load or the figure has none."""
    if row.concurrency is None or len(row.deployments) != 1:
        return None
    found = RunRoofline(row.deployments[0], library).figures(row.concurrency)
    value = None if found is None else found.get(row.figure)
    return value if value is not None and value > 0 else None
