"""GPUs: multiprocessors with tensor cores behind a shared L2 cache."""
