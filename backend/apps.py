from django.apps import AppConfig


class BackendConfig(AppConfig):
    """The wiring as an app: its templates and static files are found, and its checks are run."""

    name = "backend"

    def ready(self) -> None:
        from backend import checks  # noqa: F401  # registers them
