-- Keys that were rendered are told by the last day on which a run was decided with them; those of tasks have none, and stay.
ALTER TABLE concurrency ADD COLUMN used_on date;
CREATE INDEX concurrency_used_on ON concurrency (used_on) WHERE used_on IS NOT NULL;
