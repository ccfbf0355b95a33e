"""Hardware: machines as the engine sees them, systems, runtimes and the technology library."""
