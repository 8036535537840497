"""What happens to builds that apps above want to hear of."""

from django.dispatch import Signal

# Sent with ``build`` after the commit, when it has evidence that it did not have before.
evidence_added = Signal()
