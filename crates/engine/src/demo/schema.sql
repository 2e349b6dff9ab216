CREATE TABLE couples (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partner_one text NOT NULL,
    partner_two text NOT NULL,
    email text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE weddings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    couple_id bigint NOT NULL REFERENCES couples (id),
    wedding_date date NOT NULL,
    venue text NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'completed', 'cancelled')),
    budget_cents bigint NOT NULL
);
CREATE INDEX weddings_by_date ON weddings (wedding_date) WHERE status = 'active';
CREATE TABLE vendors (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    trade text NOT NULL,
    city text NOT NULL,
    profile jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE timelines (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    wedding_id bigint NOT NULL UNIQUE REFERENCES weddings (id),
    title text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE timeline_items (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    timeline_id bigint NOT NULL REFERENCES timelines (id),
    vendor_id bigint REFERENCES vendors (id),
    starts_at timestamptz NOT NULL,
    duration_minutes integer NOT NULL,
    title text NOT NULL,
    notes text,
    done boolean NOT NULL DEFAULT false
);
CREATE INDEX timeline_items_by_timeline ON timeline_items (timeline_id, starts_at);
CREATE TABLE guests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    wedding_id bigint NOT NULL REFERENCES weddings (id),
    name text NOT NULL,
    answer text NOT NULL DEFAULT 'open' CHECK (answer IN ('open', 'yes', 'no')),
    meal text
);
CREATE INDEX guests_by_wedding ON guests (wedding_id);
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    wedding_id bigint NOT NULL REFERENCES weddings (id),
    vendor_id bigint REFERENCES vendors (id),
    sent_at timestamptz NOT NULL DEFAULT now(),
    body text NOT NULL
);
CREATE INDEX messages_by_wedding ON messages (wedding_id, sent_at);
CREATE TABLE payments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    wedding_id bigint NOT NULL REFERENCES weddings (id),
    vendor_id bigint NOT NULL REFERENCES vendors (id),
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    due_on date NOT NULL,
    paid_at timestamptz
);
