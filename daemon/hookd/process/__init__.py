"""One process of the daemon, from its start to its exit. Begin with `main`; `supervisor` holds the nursery tree."""
