from django.apps import AppConfig


class SpecsConfig(AppConfig):
    name = "apps.specs"
    verbose_name = "Appspecs and buildspecs"
