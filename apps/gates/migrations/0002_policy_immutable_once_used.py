"""Let a policy version that a decision stands on be changed by nobody.

The services only ever add versions; this holds whoever else writes to the table to the same.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION gates_policy_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM gates_decision WHERE policy_id = OLD.id) THEN
        RAISE EXCEPTION 'Policy % is what decisions stand on: % is refused. Save a new version.', OLD.id, TG_OP
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER gates_policy_immutable BEFORE UPDATE OR DELETE ON gates_policy
    FOR EACH ROW EXECUTE FUNCTION gates_policy_refuse();
"""

REVERSE = """
DROP TRIGGER gates_policy_immutable ON gates_policy;
DROP FUNCTION gates_policy_refuse();
"""


class Migration(migrations.Migration):
    dependencies = [("gates", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
