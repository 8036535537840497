"""The program behind scripts/demo."""

from .signals import leave_at_once

leave_at_once()

from .run import main  # noqa: E402  # this takes a second, in which a signal may come

main()
