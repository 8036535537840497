"""Lockkeeper's apps, cut by the nouns people use; imports between them point one way."""
