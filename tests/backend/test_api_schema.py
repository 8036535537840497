"""The OpenAPI schema: valid, complete, and true of what the endpoints answer."""

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
from django.core.management import call_command
from django.test import TestCase

from apps.builds.models import Build
from apps.promotions.models import Approval
from tests.backend.test_admin_pages import make_one_of_each
from tests.clients import ApiClient, signed_in
from tests.factories import make_build, make_deployment, make_environment, make_service, make_user


def schema() -> dict[str, Any]:
    out = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", stdout=out)
    return json.loads(out.getvalue())


def nullable(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: ``nullable`` is a type there."""
    if isinstance(node, list):
        return [nullable(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: nullable(value) for key, value in node.items()}
    if node.pop("nullable", False):
        return {"anyOf": [node, {"type": "null"}]}
    return node


class SchemaTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.schema = schema()
        cls.root = make_user("root", is_superuser=True, is_staff=True)
        make_one_of_each("web")
        # And rows in which everything is empty that may be.
        service = make_service("bare")
        empty = dict.fromkeys(("number", "deviations", "started_at", "finished_at", "collected_at"))
        make_build(service, status=Build.Status.IN_PROGRESS, **empty)
        deployment = make_deployment(make_environment(service), status="intended", codedeploy_id=None)
        type(deployment).objects.filter(pk=deployment.pk).update(release=None)
        assert Approval.objects.exists()

    def setUp(self) -> None:
        self.client = ApiClient(self.root)

    def check(self, path: str, answer: Any) -> None:
        content = self.schema["paths"][path]["get"]["responses"]["200"]["content"]
        document = nullable(
            {**content["application/json"]["schema"], "components": self.schema["components"]}
        )
        # Whatever an answer holds is to be declared, and whatever is declared is to be there.
        for component in document["components"]["schemas"].values():
            if "properties" in component and not path.endswith("schema/"):
                component["additionalProperties"] = False
        jsonschema.validate(answer, document, jsonschema.Draft202012Validator)

    def test_answers_are_as_the_schema_says(self) -> None:
        for path in self.schema["paths"]:
            if "get" not in self.schema["paths"][path] or "{" in path or path == "/api/schema/":
                continue
            rows = self.client.get(path).json()
            with self.subTest(path):
                assert rows["results"], "no rows, so nothing is proved"
                self.check(path, rows)
            for row in rows["results"]:
                key = {"services": "slug", "rules": "name"}.get(path.split("/")[-2], "id")
                address = f"{path}{{{key}}}/"
                if address not in self.schema["paths"]:
                    continue
                with self.subTest(address, row=row[key]):
                    self.check(address, self.client.get(f"{path}{row[key]}/").json())
        (case,) = self.client.get("/api/v1/cases/").json()["results"]
        history = self.client.get(f"/api/v1/cases/{case['id']}/history/").json()
        self.check("/api/v1/cases/{id}/history/", history)
        build = Build.objects.filter(reports__isnull=False).distinct().get()
        results = self.client.get(f"/api/v1/builds/{build.pk}/results/").json()
        assert results["results"]
        self.check("/api/v1/builds/{build}/results/", results)
        coverage = self.client.get(f"/api/v1/builds/{build.pk}/coverage/").json()
        assert coverage["files"]
        self.check("/api/v1/builds/{id}/coverage/", coverage)
        self.check(
            "/api/v1/builds/{id}/comparison/{against}/",
            self.client.get(f"/api/v1/builds/{build.pk}/comparison/{build.pk}/").json(),
        )

    def test_every_operation_names_its_problems_and_wants_a_token(self) -> None:
        operations = [
            operation for methods in self.schema["paths"].values() for operation in methods.values()
        ]
        assert len(operations) > 15
        for operation in operations:
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert {"token": []} in operation["security"]
            assert {} not in operation["security"]

    def test_the_documentation_brings_its_own_assets(self) -> None:
        page = signed_in(self.root).get("/api/docs/").content.decode()
        assert "/static/drf_spectacular_sidecar/" in page
        assert "cdn" not in page

    def test_times_are_utc(self) -> None:
        created = self.client.get("/api/v1/services/web/").json()["created_at"]
        assert created.endswith("Z")
        assert datetime.fromisoformat(created).tzinfo == UTC

    def test_the_guide_names_every_path(self) -> None:
        guide = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
        for path in self.schema["paths"]:
            # The inner of two parameters has a name of its own, which the guide does without.
            assert path.removeprefix("/api/v1/").replace("{build}", "{id}") in guide, path
