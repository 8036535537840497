"""Readers of test reports, one module per format: ``parse(stream)`` yields cases, or raises ParseError."""
