from typing import Any

from django.apps import AppConfig

from apps.builds.signals import evidence_added


class PromotionsConfig(AppConfig):
    name = "apps.promotions"
    verbose_name = "Promotions"

    def ready(self) -> None:
        evidence_added.connect(_wake_waiting_for, dispatch_uid="promotions")


def _wake_waiting_for(build: Any, **_: Any) -> None:
    # Not at the top, since no model may be imported before all apps are there.
    from apps.promotions.standing import wake_waiting_for

    wake_waiting_for(build)
