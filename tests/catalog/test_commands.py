import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase

from apps.access.models import Token, User
from apps.catalog.models import ApproverGroup, Environment, Membership, Service
from apps.gates.models import Policy
from apps.ledger.models import Entry
from apps.promotions.models import Window
from tests.factories import make_member, make_service, make_user

SHOP = {
    "slug": "shop",
    "name": "Shop",
    "bucket": "shop",
    "codebuild_project": "shop",
    "environments": [
        {
            "slug": "staging",
            "application": "shop",
            "deployment_group": "staging",
            "policy": [{"rule": "built_as_defined"}],
        },
        {
            "slug": "production",
            "application": "shop",
            "deployment_group": "production",
            "upstreams": ["staging"],
            "policy": [{"rule": "verified_upstream"}, {"rule": "approved"}],
        },
    ],
}


NIGHTS = {
    "name": "nights",
    "kind": "allow",
    "starts_at": "2026-03-01T22:00",
    "timezone": "Europe/Berlin",
    "minutes": 480,
}


def windows(*windows):
    """A change of the file: staging has these."""
    return {"environments": [{**SHOP["environments"][0], "windows": list(windows)}]}


def run(*arguments, **options):
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err, **options)
    return out.getvalue()


def groups_of(slug):
    return ApproverGroup.objects.filter(service__slug=slug)


@pytest.fixture
def register(tmp_path):
    def call(data):
        path = tmp_path / "service.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return run("register_service", str(path))

    return call


@pytest.mark.django_db
class TestRegisterService:
    def test_it_sets_up_all_at_once_and_twice_is_the_same(self, register):
        ann = make_user("ann")
        data = {**SHOP, "members": {"ann": ["developer", "operator"]}}
        register(data)
        out = register(data)
        assert "Service shop is set up." in out
        production = Environment.objects.get(slug="production")
        assert [each.slug for each in production.upstreams.all()] == ["staging"]
        assert production.position == 1
        assert Policy.objects.count() == 2
        assert Membership.objects.filter(user=ann).count() == 2

    def test_it_says_how_long_evidence_is_kept(self, register):
        register(SHOP)
        assert Service.objects.get().evidence_days is None
        register({**SHOP, "evidence_days": 90})
        register(SHOP)
        assert Service.objects.get().evidence_days == 90
        for wrong, message in (("soon", "must be a int"), (True, "must be a int"), (0, "evidence_days")):
            with pytest.raises(CommandError, match=message):
                register({**SHOP, "evidence_days": wrong})

    def test_groups_are_filled_and_environments_may_ask_by_themselves(self, register):
        make_user("ann")
        staging = {**SHOP["environments"][0], "auto_promote": True}
        members = {"members": {"ann": ["approver"]}, "groups": {"qa": ["ann"], "empty": []}}
        for _ in range(2):
            register({**SHOP, "environments": [staging, SHOP["environments"][1]], **members})
        environments = dict(Environment.objects.values_list("slug", "auto_promote"))
        assert environments == {"staging": True, "production": False}
        groups = {group.name: [user.username for user in group.members.all()] for group in groups_of("shop")}
        assert groups == {"qa": ["ann"], "empty": []}

    def test_a_changed_policy_is_a_new_version(self, register):
        register(SHOP)
        changed = json.loads(json.dumps(SHOP))
        changed["environments"][1]["policy"].append({"rule": "evidence_complete"})
        assert "shop/production: policy v2" in register(changed)

    def test_without_a_policy_an_environment_gets_the_one_to_begin_with(self, register):
        bare = json.loads(json.dumps(SHOP))
        for environment in bare["environments"]:
            del environment["policy"]
        out = register(bare)
        assert "shop/production: policy v1, the one to begin with" in out
        policy = Policy.objects.get(environment__slug="production")
        assert "verified_upstream" in [rule["rule"] for rule in policy.rules]
        assert "shop/production: policy unchanged" in register(bare)

    def test_windows_become_those_of_the_file(self, register):
        staging, production = SHOP["environments"]

        def with_windows(*windows):
            return register({**SHOP, "environments": [staging, {**production, "windows": list(windows)}]})

        def names():
            windows = Window.objects.filter(environment__slug="production")
            return sorted(windows.values_list("name", "minutes", "rrule"))

        def acts():
            return list(Entry.objects.filter(action__startswith="window.").values_list("action", flat=True))

        daily = {**NIGHTS, "rrule": "freq=daily"}
        told = with_windows(daily, {**NIGHTS, "name": "once"})
        assert "shop/staging: policy v1\n" in told
        assert "shop/production: policy v1, 2 windows\n" in told
        assert names() == [("nights", 480, "FREQ=DAILY"), ("once", 480, "")]
        assert ", 2 windows as before\n" in with_windows({**NIGHTS, "name": "once"}, daily)
        assert acts() == ["window.added", "window.added"]
        kept = Window.objects.get(name="nights").pk
        assert ", 1 window\n" in with_windows({**daily, "minutes": 60})
        assert names() == [("nights", 60, "FREQ=DAILY")]
        assert Window.objects.get().pk == kept
        assert acts()[2:] == ["window.removed", "window.changed"]
        register(SHOP)
        assert names() == [("nights", 60, "FREQ=DAILY")]
        assert ", no windows\n" in with_windows()
        assert names() == []

    def test_yaml_works_too(self, register):
        register("slug: shop\nname: Shop\nbucket: shop\ncodebuild_project: shop\n")
        assert Service.objects.get().slug == "shop"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"name": None}, "name must be a str, not None"),
            ({"colour": "red"}, "unknown key colour"),
            ({"environments": [{"slug": "x"}]}, r"environments[0]: application, deployment_group is missing"),
            ({"environments": [SHOP["environments"][1]]}, "its upstream staging is not listed before it"),
            ({"groups": {"QA": []}}, "Group 'QA' of shop: Use lower-case"),
            ({"groups": {"qa": ["nobody"]}}, "no active user 'nobody'"),
            ({"members": {"nobody": ["developer"]}}, "no active user 'nobody'"),
            (
                {"environments": [{**SHOP["environments"][0], "policy": [{"rule": "nope"}]}]},
                "Unknown rule 'nope'",
            ),
            (windows({}), "environments[0]: windows[0]: name, kind, starts_at, timezone, minutes is missing"),
            (windows({**NIGHTS, "minutes": "480"}), "windows[0]: minutes must be a int, not '480'"),
            (windows({**NIGHTS, "until": "x"}), "windows[0]: unknown key until"),
            (windows(NIGHTS, NIGHTS), "environments[0]: The window 'nights' is there twice."),
            (
                windows({**NIGHTS, "rrule": "FREQ=SECONDLY"}),
                "environments[0]: The window 'nights': rrule: FREQ",
            ),
            (
                windows(*({**NIGHTS, "name": f"n{number}"} for number in range(51))),
                "at most 50 windows, not 51",
            ),
        ],
    )
    def test_a_bad_file_is_refused_whole(self, register, change, message):
        with pytest.raises(CommandError) as caught:
            register({**SHOP, **change})
        assert message in str(caught.value)
        assert not Service.objects.exists()

    def test_a_file_that_cannot_be_read_is_said(self, register, tmp_path):
        with pytest.raises(CommandError, match="No such file"):
            run("register_service", str(tmp_path / "nope.json"))
        with pytest.raises(CommandError, match="neither YAML nor JSON"):
            register("{ slug: [")
        with pytest.raises(CommandError, match="an object with slug"):
            register("- just\n- a list\n")


class ApproverGroupTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        shop = make_service("shop")
        for name in ("ann", "ben"):
            make_member(shop, "approver", username=name)
        make_member(shop, "developer", username="cleo")

    def test_members_are_added_removed_and_shown(self):
        out = run("approver_group", "shop", "qa", "--add", "ann", "--add", "ben")
        assert out == "shop/qa: ann, ben.\n"
        for _ in range(2):
            assert run("approver_group", "shop", "qa", "--remove", "ann") == "shop/qa: ben.\n"
        assert run("approver_group", "shop", "qa", "--remove", "ben") == "shop/qa: nobody.\n"

    def test_one_who_cannot_be_added_keeps_all_as_it_was(self):
        with pytest.raises(CommandError, match="cleo is no approver of shop"):
            run("approver_group", "shop", "qa", "--add", "ann", "--add", "cleo")
        assert not groups_of("shop").exists()

    def test_a_group_that_is_not_there_is_not_made_to_be_shown(self):
        with pytest.raises(CommandError, match=r"shop has no group 'qa'. Known: none"):
            run("approver_group", "shop", "qa")

    def test_somebody_who_is_not_in_it_cannot_be_taken_out(self):
        run("approver_group", "shop", "qa", "--add", "ann")
        with pytest.raises(CommandError, match="no user 'anm'"):
            run("approver_group", "shop", "qa", "--remove", "anm")


class CreateUserTests(TestCase):
    def test_a_generated_password_is_printed_and_works(self):
        make_service("shop")
        out = run("create_user", "ann", "--role", "developer:shop", "--generate-password", "--staff")
        ann = User.objects.get(username="ann")
        assert ann.check_password(out.strip())
        assert ann.is_staff
        assert Membership.objects.get(user=ann).role == "developer"

    def test_a_password_from_the_environment_is_not_printed(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOCKKEEPER_PASSWORD", "a long enough one 17")
            out = run("create_user", "ann")
        assert out == ""
        assert User.objects.get().check_password("a long enough one 17")

    def test_a_weak_password_is_refused(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOCKKEEPER_PASSWORD", "ann")
            with pytest.raises(CommandError, match="too short"):
                run("create_user", "ann")
        assert not User.objects.exists()

    def test_again_gives_roles_and_keeps_the_password(self):
        make_service("shop")
        password = run("create_user", "ann", "--generate-password", "--staff").strip()
        run("create_user", "ann", "--role", "approver:shop")
        ann = User.objects.get()
        assert ann.check_password(password)
        assert ann.is_staff

    def test_a_service_account_has_no_password(self):
        run("create_user", "bot", "--service-account")
        assert not User.objects.get().has_usable_password()
        with pytest.raises(CommandError, match="no password and no admin"):
            run("create_user", "bot", "--service-account", "--staff")

    def test_a_bad_role_makes_no_user(self):
        make_service("shop")
        for role, message in (("developer", "write ROLE:SERVICE"), ("boss:shop", "Unknown role 'boss'")):
            with pytest.raises(CommandError, match=message):
                run("create_user", "ann", "--role", role)
        with pytest.raises(CommandError, match="no service 'shp'"):
            run("create_user", "ann", "--role", "developer:shp")
        assert not User.objects.exists()


class TokenCommandTests(TestCase):
    def test_the_secret_is_printed_once_and_only_its_hash_is_kept(self):
        ann = make_user("ann")
        secret = run(
            "create_token", "ann", "laptop", "--scope", "read", "--scope", "ci", "--days", "30"
        ).strip()
        token = Token.objects.get()
        assert token.is_usable()
        assert token.user == ann
        assert token.digest == Token.digest_of(secret)
        assert secret.startswith(token.hint)
        assert len(token.hint) < len(secret) / 3
        assert token.scopes == ["read", "ci"]

    def test_a_token_limited_to_services(self):
        web = make_service("web")
        make_service("blog")
        make_member(web, "developer", username="ann")
        run("create_token", "ann", "laptop", "--scope", "read", "--service", "web")
        assert Token.objects.get().services == ["web"]
        with pytest.raises(CommandError, match="ann has no role in blog"):
            run("create_token", "ann", "other", "--scope", "read", "--service", "blog")
        with pytest.raises(CommandError, match="no service 'wbe'"):
            run("create_token", "ann", "other", "--scope", "read", "--service", "wbe")

    def test_a_revoked_token_is_usable_no_longer(self):
        make_user("ann")
        run("create_token", "ann", "laptop", "--scope", "read")
        first = run("revoke_token", "ann", "laptop")
        assert run("revoke_token", "ann", "laptop") == first
        assert not Token.objects.get().is_usable()

    def test_what_is_unknown_is_said(self):
        make_user("ann")
        with pytest.raises(CommandError, match="no active user 'bob'"):
            run("create_token", "bob", "laptop", "--scope", "read")
        with pytest.raises(CommandError, match=r"has no token 'phone'. Known: none"):
            run("revoke_token", "ann", "phone")
        with pytest.raises(CommandError, match="needs at least one scope"):
            run("create_token", "ann", "laptop")
        with pytest.raises(CommandError, match="would have expired already"):
            run("create_token", "ann", "laptop", "--scope", "read", "--days", "0")
