-- Usage of tools, slots of agents, rendered concurrency keys, and batches.

-- When the present lease of an item began: what an external worker uses of its owner's budgets.
ALTER TABLE pending_item ADD COLUMN leased_at timestamptz(3);

-- An agent's slots are counted like those of a key, in a namespace that no agent has: one row each, from before its first run on.
-- Without a limit nothing is counted, and no turn locks the row.
ALTER TABLE concurrency ALTER COLUMN "limit" DROP NOT NULL;
INSERT INTO concurrency (namespace, key, "limit") SELECT '@agents', id::text, max_concurrent_runs FROM agent;
-- Of a leased row: whether it holds a slot of its agent. Of a blocked one: whether it waits for one, and not for one of its key.
ALTER TABLE due_work ADD COLUMN agent_slot boolean NOT NULL DEFAULT false;
DROP INDEX due_work_blocked;
CREATE INDEX due_work_blocked ON due_work (namespace, concurrency_key, rank, due_at, id) WHERE state = 'blocked' AND NOT agent_slot;
CREATE INDEX due_work_waits_for_agent ON due_work (agent_id, rank, due_at, id) WHERE state = 'blocked' AND agent_slot;
