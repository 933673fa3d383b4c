"""What is timed in turns: each module is a process that serves `benchmarks.alternating` over a pipe."""
