"""Immutable bundles: what can ship."""
