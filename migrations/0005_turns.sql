-- What is ready of one agent, in the order in which it is leased: agents take turns within a rank.
CREATE INDEX due_work_turns ON due_work (agent_id, rank, due_at, id) WHERE state = 'ready' AND crashes < 2;
