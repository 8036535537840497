from datetime import timedelta

import pytest
from django.test import TestCase
from django.utils import timezone

from apps.access.models import Token
from apps.access.services import create_token, create_user, revoke_token
from apps.errors import DomainError, Invalid
from tests.factories import make_user


class CreateTokenTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.ann = make_user("ann")

    def test_secrets_differ_and_are_long(self):
        _, first = create_token(user=self.ann, name="a", scopes=["read"])
        _, second = create_token(user=self.ann, name="b", scopes=["read"])
        assert first != second
        assert len(first) > 40

    def test_an_unknown_scope_is_refused(self):
        with pytest.raises(Invalid, match="Unknown scope root: choose from read, ci"):
            create_token(user=self.ann, name="a", scopes=["read", "root"])

    def test_a_name_is_used_once_per_user(self):
        create_token(user=self.ann, name="a", scopes=["read"])
        with pytest.raises(DomainError, match="already has a token named 'a'"):
            create_token(user=self.ann, name="a", scopes=["read"])
        create_token(user=make_user("ben"), name="a", scopes=["read"])

    def test_it_expires(self):
        soon = timezone.now() + timedelta(minutes=1)
        token, _ = create_token(user=self.ann, name="a", scopes=["read"], expires_at=soon)
        assert token.is_usable()
        assert not token.is_usable(at=soon)

    def test_it_is_found_whole_by_its_digest(self):
        create_token(user=self.ann, name="other", scopes=["ci"])
        token, secret = create_token(user=self.ann, name="a", scopes=["read"], services=["web"])
        with self.assertNumQueries(1):
            found = Token.objects.by_digest(Token.digest_of(secret))
            assert [getattr(found, field.attname) for field in Token._meta.concrete_fields] == [
                getattr(token, field.attname) for field in Token._meta.concrete_fields
            ]
            assert found.user.password == self.ann.password
        assert Token.objects.by_digest(Token.digest_of("lk_another")) is None

    def test_revoking_a_stale_copy_keeps_the_first_time(self):
        token, _ = create_token(user=self.ann, name="a", scopes=["read"])
        copy = Token.objects.get()
        revoke_token(token=token, by=self.ann)
        revoke_token(token=copy, by=self.ann)
        assert copy.revoked_at == token.revoked_at


class CreateUserTests(TestCase):
    def test_a_person_is_not_turned_into_a_service_account(self):
        create_user(username="ann")
        with pytest.raises(Invalid, match="ann exists already as a person"):
            create_user(username="ann", kind="service")

    def test_a_bad_name_is_refused(self):
        with pytest.raises(Invalid, match="User 'a b'"):
            create_user(username="a b")
