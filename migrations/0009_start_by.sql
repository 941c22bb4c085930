-- Runs that have not started and may do so only until an instant.
CREATE INDEX due_work_start_by ON due_work (start_by) WHERE lease_no = 0 AND start_by IS NOT NULL;
