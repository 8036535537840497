"""Policies, decisions, and the rules that make them."""
