"""Tell what a build's tests change of what an environment runs."""

import json
from typing import Any

from django.core.management.base import CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from apps.builds import tell
from apps.builds.compare import Slower, to_json
from apps.builds.models import Build
from apps.builds.services import get_build
from apps.catalog.services import get_environment, get_service
from apps.commands import DomainCommand
from apps.errors import DomainError
from apps.promotions.compare import compare_with_running


class Command(DomainCommand):
    help = (
        "Tell which tests of a build went another way than those of what ENVIRONMENT of SERVICE runs: new "
        "failures, fixed, still failing, vanished, new and slower ones. Without --build, of the service's "
        "newest build whose reports have been read. `reports compare` compares any two builds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("environment", metavar="ENVIRONMENT")
        parser.add_argument("--build", help="Another build: its id, or CodeBuild's.")
        tell.add_comparison_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        service = get_service(options["service"])
        environment = get_environment(service=service, slug=options["environment"])
        if options["build"]:
            build = get_build(options["build"])
        else:
            newest = Build.objects.filter(service=service, reports__outcomes__isnull=False)
            found = newest.order_by("-pk").first()
            if found is None:
                raise DomainError(f"No build of {service.slug} has test reports.")
            build = found
        than = Slower(options["factor"], options["minimum_ms"])
        before, comparison = compare_with_running(build=build, environment=environment, than=than)
        told = to_json(comparison, before=before, after=build, limit=options["limit"])
        if options["json"]:
            self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder))
        else:
            self.stdout.write("\n".join(tell.comparison(told)))
