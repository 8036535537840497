import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0003_approver_groups_and_auto_promote"),
        ("deployments", "0003_deployment_by_its_end"),
        ("releases", "0003_release_steps"),
    ]

    operations = [
        migrations.CreateModel(
            name="GroupWatch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("lease_owner", models.CharField(blank=True, editable=False, max_length=100)),
                ("lease_until", models.DateTimeField(blank=True, editable=False, null=True)),
                ("lease_fence", models.PositiveBigIntegerField(default=0, editable=False)),
                ("seen_until", models.DateTimeField(help_text="What was made before has been seen.")),
                ("looked_at", models.DateTimeField(blank=True, null=True)),
                ("problem", models.TextField(blank=True, default="", help_text="Why the last look failed.")),
            ],
            options={
                "verbose_name_plural": "group watches",
            },
        ),
        migrations.RemoveConstraint(
            model_name="deployment",
            name="deployment_one_active_per_environment",
        ),
        migrations.AddField(
            model_name="deployment",
            name="creator",
            field=models.CharField(blank=True, db_default="", default="", max_length=60),
        ),
        migrations.AddField(
            model_name="deployment",
            name="description",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="deployment",
            name="origin",
            field=models.CharField(
                choices=[
                    ("lockkeeper", "Lockkeeper"),
                    ("outside", "somebody outside Lockkeeper"),
                    ("auto_scaling", "new hosts"),
                    ("codedeploy_rollback", "CodeDeploy's own rollback"),
                ],
                db_default="lockkeeper",
                default="lockkeeper",
                max_length=20,
            ),
        ),
        migrations.AddField(
            model_name="deployment",
            name="revision",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="Where what was deployed lies, release or not.",
            ),
        ),
        migrations.AddField(
            model_name="deployment",
            name="rolls_back",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="CodeDeploy's id of the deployment that its own rollback undoes.",
                max_length=100,
            ),
        ),
        migrations.AddConstraint(
            model_name="deployment",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("origin", "lockkeeper"), ("status__in", ["intended", "requested", "running"])
                ),
                fields=("environment",),
                name="deployment_one_active_of_ours_per_environment",
            ),
        ),
        migrations.AddConstraint(
            model_name="deployment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("origin__in", ["lockkeeper", "outside", "auto_scaling", "codedeploy_rollback"])
                ),
                name="deployment_origin_known",
            ),
        ),
        migrations.AddField(
            model_name="groupwatch",
            name="environment",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="group_watch",
                to="catalog.environment",
            ),
        ),
    ]
