-- Refuses what must never happen to a row and cannot be seen afterwards, and keeps where an edit found the cursor.

CREATE TABLE edit_witness (
  task_id         uuid NOT NULL,
  version         integer NOT NULL,
  decided_through timestamptz(3) NOT NULL
);

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '% of % is refused: % becomes %', TG_OP, TG_TABLE_NAME, OLD, NEW; END $$;

CREATE FUNCTION keep_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO edit_witness VALUES (NEW.id, NEW.version, OLD.decided_through); RETURN NEW; END $$;

CREATE TRIGGER edited BEFORE UPDATE ON task FOR EACH ROW WHEN (NEW.version <> OLD.version) EXECUTE FUNCTION keep_edit();

CREATE TRIGGER forward BEFORE UPDATE ON task FOR EACH ROW
WHEN (NEW.decided_through < OLD.decided_through OR NEW.fired_count < OLD.fired_count
  OR OLD.status = 'canceled' AND NEW.status <> 'canceled')
EXECUTE FUNCTION refuse();

CREATE TRIGGER forward BEFORE UPDATE ON due_work FOR EACH ROW
WHEN (NEW.lease_no NOT IN (OLD.lease_no, OLD.lease_no + 1) OR NEW.attempt NOT IN (OLD.attempt, OLD.attempt + 1)
  OR NEW.state = 'leased' AND OLD.state <> 'leased' AND NEW.lease_no = OLD.lease_no
  OR NEW.state = 'leased' AND OLD.state = 'leased' AND NEW.locked_by <> OLD.locked_by)
EXECUTE FUNCTION refuse();

CREATE TRIGGER final BEFORE UPDATE ON task_run FOR EACH ROW EXECUTE FUNCTION refuse();
