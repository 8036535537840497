"""Keep a release from an environment or from all, or take that back."""

from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user
from apps.catalog.services import get_environment, get_service
from apps.commands import DomainCommand
from apps.errors import NotFound
from apps.promotions.holds import lift_veto, veto_release
from apps.promotions.models import Veto
from apps.releases.services import find_release


class Command(DomainCommand):
    help = (
        "Keep RELEASE (a version, a digest or its beginning, or an id) of SERVICE from --environment, or "
        "from every one, until the veto is lifted (--lift). For approvers and operators. The same twice is "
        "safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("release", metavar="RELEASE")
        parser.add_argument("--environment", help="This one alone.")
        parser.add_argument("--reason", default="", help="What others read who are held up.")
        parser.add_argument("--lift", action="store_true", help="Take it back; --reason is a comment then.")
        parser.add_argument("--user", required=True, help="Who does it: an approver or operator.")

    def handle(self, *args: Any, **options: Any) -> None:
        service = get_service(options["service"])
        release = find_release(service=service, name=options["release"])
        slug, user = options["environment"], get_user(options["user"])
        environment = get_environment(service=service, slug=slug) if slug else None
        where = slug or "any environment"
        if options["lift"]:
            vetoes = Veto.objects.standing().filter(release=release, environment=environment)
            veto = vetoes.select_related("release__service", "environment").first()
            if veto is None:
                raise NotFound(f"There is no veto that keeps {release.version} from {where}.")
            lift_veto(veto=veto, user=user, comment=options["reason"])
            self.stdout.write(f"{release.version} is kept from {where} no longer.")
            return
        veto_release(release=release, environment=environment, user=user, reason=options["reason"])
        self.stdout.write(f"{release.version} of {service.slug} may not go to {where} until that is lifted.")
