import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("releases", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="BundleLook",
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
                (
                    "asked_at",
                    models.DateTimeField(
                        help_text="When S3 was last asked, with or without an answer.", null=True
                    ),
                ),
                (
                    "problem",
                    models.TextField(blank=True, help_text="How it differs from what was registered."),
                ),
                (
                    "since",
                    models.DateTimeField(help_text="Since when each answer of S3 was the same.", null=True),
                ),
                (
                    "failing_since",
                    models.DateTimeField(help_text="Since when S3 gives no answer.", null=True),
                ),
                (
                    "failure",
                    models.TextField(blank=True, help_text="Why the last look got no answer."),
                ),
                (
                    "release",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="look",
                        to="releases.release",
                    ),
                ),
            ],
            options={"abstract": False},
        ),
    ]
