"""Photos to features `(N, D)`: computed once and kept in a cache under a digest of the photo's bytes."""
