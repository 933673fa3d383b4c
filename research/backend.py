"""How JAX is set up before the first compile: a persistent cache, so that a second start compiles nothing."""

import logging
import os
from pathlib import Path


def set_up() -> None:
    """Keep every compiled program under `JAX_COMPILATION_CACHE_DIR` or the user's cache folder; quiet the libraries."""
    import jax

    # Orbax speaks through absl of choices that are ours ("read_only=True"), and logs what it raises as well; so do
    # the event loops it writes with.
    for library in ("absl", "asyncio", "concurrent.futures"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "convscale" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
