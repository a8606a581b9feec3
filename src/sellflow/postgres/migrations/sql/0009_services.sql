-- Which scripts of other teams' services have run; the owner's alone. A service is known by its queue.
CREATE TABLE service_migrations (
    queue  text NOT NULL,
    number integer NOT NULL,
    -- SHA-256 of the script: one that ran may not be changed.
    digest text NOT NULL,
    run_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, number)
);
