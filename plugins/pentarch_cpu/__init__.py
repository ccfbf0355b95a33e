"""CPUs: cores with SIMD and matrix units behind private and shared caches."""
