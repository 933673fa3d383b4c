"""A network of the catalogue, forward or in training, beside this machine's ceilings: `research.analysis.workload`.

With CONVSCALE_LOWERING=native in its environment it is the stock side of `benchmarks/against.py`.
"""

import os

from benchmarks.alternating import Spec, Timer, serve
from research.analysis import ceiling, workload


def prepare(spec: Spec) -> tuple[dict[str, Timer], Spec]:
    """A `Work` as keywords -> timers of it, of a matrix product and of a stream through memory."""
    work = workload.Work(**spec)
    prepared = workload.prepare(work, workload.check(work).macs)
    product, stream = ceiling.matrix_product(), ceiling.stream()
    facts = {
        "flops": prepared.program.amount,
        "compile_seconds": prepared.compile_seconds,
        "memory_bytes": prepared.memory.total,
        "rss_growth_bytes": prepared.rss_growth,
        "peak_rss_bytes": prepared.peak_rss,
        "product_flops": product.amount,
        "stream_bytes": stream.amount,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    timers = {"step": prepared.program.seconds, "product": product.seconds, "stream": stream.seconds}
    return {**timers, "compile": lambda calls: prepared.compile_again()}, facts


if __name__ == "__main__":
    serve(prepare)
