"""On a deployed host: migrations, readiness, and what release this is."""
