"""A policy version stays what decisions stand on."""

import pytest
from django.db import IntegrityError, InternalError, transaction
from django.test import TestCase

from apps.gates.models import Policy
from tests.factories import (
    make_decision,
    make_environment,
    make_policy,
    make_release,
)


class ImmutableTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.environment = make_environment()
        cls.policy = make_policy(cls.environment)

    def test_a_version_that_no_decision_stands_on_may_go(self):
        self.policy.delete()
        assert not Policy.objects.exists()

    def test_once_a_decision_stands_on_it_nobody_changes_it(self):
        make_decision(self.environment, make_release(self.environment.service))
        changes = (
            lambda: Policy.objects.update(rules=[{"rule": "approved"}]),
            lambda: Policy.objects.filter(pk=self.policy.pk)._raw_delete("default"),
        )
        for change in changes:
            refused = pytest.raises((InternalError, IntegrityError), match="is what decisions stand on")
            with refused, transaction.atomic():
                change()
        self.policy.refresh_from_db()
        assert self.policy.rules == []
