-- Until when a worker leases nothing, so that a suspect can be alone in it. Read by all, so that no more than some do so at a time.
ALTER TABLE worker_heartbeat ADD COLUMN making_room_until timestamptz(3);
