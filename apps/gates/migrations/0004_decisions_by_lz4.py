"""Compress what decisions hold by LZ4, where PostgreSQL was built with it.

A changed policy writes a decision for each promotion that waits: PostgreSQL's own compression takes a fifth
of the time of that. What is there already stays as it is, and can be read as before.
"""

from django.db import migrations

FORWARD = """
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
    ) THEN
        ALTER TABLE gates_decision
            ALTER COLUMN facts SET COMPRESSION lz4,
            ALTER COLUMN findings SET COMPRESSION lz4;
    END IF;
END
$$;
"""

REVERSE = """
ALTER TABLE gates_decision
    ALTER COLUMN facts SET COMPRESSION DEFAULT,
    ALTER COLUMN findings SET COMPRESSION DEFAULT;
"""


class Migration(migrations.Migration):
    dependencies = [("gates", "0003_policy_rollback")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
