from django.apps import AppConfig


class BuildsConfig(AppConfig):
    name = "apps.builds"
    verbose_name = "Builds"
