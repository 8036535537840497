"""Decisions at the REST API: what the gates said, and of which facts."""

from typing import Any, ClassVar

import django_filters
from django.db.models import Func, QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import Representation, RowsMixin, Written, written
from apps.as_json import WrittenField, as_object
from apps.catalog.visibility import VisibleMixin
from apps.errors import NotFound
from apps.gates.models import Decision, Policy
from apps.gates.parameters import json_schema
from apps.gates.rules import RULES
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Verdict
from apps.releases.api import ReleaseBriefSerializer, brief_release


class RuleSerializer(Representation):
    """A rule that a policy may have."""

    name = serializers.CharField()
    description = serializers.CharField(help_text="What it asks for.")
    parameters = serializers.DictField(help_text="JSON Schema (2020-12) of its parameters.")


class RuleViewSet(viewsets.GenericViewSet[Any]):
    """The rules that this version knows, in the order of the guide. There are few: one page holds them."""

    # Of no service and in no table.
    queryset = Policy.objects.none()
    serializer_class = RuleSerializer
    filter_backends = ()
    lookup_field = "name"
    lookup_value_regex = "[a-z_]+"

    @extend_schema(parameters=[OpenApiParameter(each, exclude=True) for each in ("cursor", "page_size")])
    def list(self, request: Request) -> Response:
        rules = [describe(rule) for rule in RULES.values()]
        return Response({"next": None, "previous": None, "results": rules})

    @extend_schema(parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH)])
    def retrieve(self, request: Request, name: str) -> Response:
        if name not in RULES:
            raise NotFound(f"There is no rule {name!r}. Known: {', '.join(RULES)}.")
        return Response(describe(RULES[name]))


def describe(rule: Rule) -> dict[str, Any]:
    """A rule as the API gives it."""
    return {
        "name": rule.name,
        "description": rule.description,
        "parameters": json_schema(rule.parameters),
    }


class FindingBriefSerializer(Representation):
    """What one rule says, as lists have it."""

    # As Finding.to_json wrote it.

    rule = serializers.CharField()
    verdict = serializers.ChoiceField(Verdict.choices)
    sentence = serializers.CharField()
    who = serializers.CharField(help_text="Who can supply what is missing.")
    earliest = serializers.DateTimeField(
        allow_null=True, help_text="When it could pass at the earliest by time alone; null if it cannot."
    )


class FindingSerializer(FindingBriefSerializer):
    """What one rule says, and of what."""

    evidence = serializers.DictField()


class BriefFindings(Func):
    """A column of findings without their evidence, which may be a hundred times as long as they are."""

    template = (
        "(SELECT coalesce("
        "jsonb_agg('{\"earliest\": null}'::jsonb || finding - 'evidence' ORDER BY number), '[]'"
        ") FROM jsonb_array_elements(%(expressions)s) WITH ORDINALITY AS found (finding, number))"
    )
    output_field = WrittenField()


class WrittenFindings(Func):
    """A column of findings, for the client alone; without any where there is none.

    Those of decisions made before there were earliest times have none, which the API says as null.
    """

    template = (
        "coalesce(CASE WHEN jsonb_path_exists(%(expressions)s, '$[*] ? (!(exists(@.earliest)))') THEN ("
        "SELECT jsonb_agg('{\"earliest\": null}'::jsonb || finding ORDER BY number) "
        "FROM jsonb_array_elements(%(expressions)s) WITH ORDINALITY AS found (finding, number)"
        ") ELSE %(expressions)s END, '[]')"
    )
    output_field = WrittenField()


class PolicyVersionSerializer(Representation):
    id = serializers.IntegerField(source="policy_id")
    version = serializers.IntegerField(source="policy.version")


@written(
    release=brief_release(),
    policy=as_object(PolicyVersionSerializer),
    findings=BriefFindings("findings"),
)
class DecisionSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="environment.service.slug")
    environment = serializers.SlugField(source="environment.slug")
    release = ReleaseBriefSerializer()
    policy = PolicyVersionSerializer()
    verdict = serializers.ChoiceField(Verdict.choices)
    findings = FindingBriefSerializer(many=True)
    evaluated_at = serializers.DateTimeField()


class DecisionDetailSerializer(DecisionSerializer):
    findings = FindingSerializer(many=True)
    facts = serializers.DictField(help_text="What the rules were told.")

    # Facts and evidence can be large, so lists leave them out.
    annotations: ClassVar = {**DecisionSerializer.annotations, "whole": WrittenFindings("findings")}
    columns = (*DecisionSerializer.columns, "whole", "facts")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return super().of(row) | {"findings": row["whole"], "facts": row["facts"]}


class DecisionFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("environment__service__slug", help_text="A service's slug.")
    environment = django_filters.CharFilter("environment__slug", help_text="An environment's slug.")
    release = django_filters.NumberFilter("release", help_text="A release's id.")
    promotion = django_filters.NumberFilter(
        method="of_promotion",
        help_text="A promotion's id: every decision on its release at its environment.",
    )

    def of_promotion(self, queryset: QuerySet[Decision], name: str, value: Any) -> QuerySet[Decision]:
        # By lookups only: apps.promotions lies above this app.
        return queryset.filter(environment__promotions=value, release__promotions=value)


class DecisionViewSet(RowsMixin, VisibleMixin, viewsets.ReadOnlyModelViewSet[Decision]):
    """What the gates said, newest first; a new decision is written when facts, policy or verdict changed."""

    queryset = Decision.objects.all()
    service_path = "environment__service"
    filterset_class = DecisionFilter

    def get_serializer_class(self) -> type[Representation]:
        return DecisionSerializer if self.action == "list" else DecisionDetailSerializer
