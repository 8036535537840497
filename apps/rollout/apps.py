from django.apps import AppConfig


class RolloutConfig(AppConfig):
    name = "apps.rollout"
    verbose_name = "Rollout"

    def ready(self) -> None:
        from apps.rollout.version import current_release

        # Read once, at start: what a process answers is what it was started as.
        current_release()
