-- Usage of tools, slots of agents, rendered concurrency keys, and batches.

-- When the present lease of an item began: what an external worker uses of its owner's budgets.
ALTER TABLE pending_item ADD COLUMN leased_at timestamptz(3);
