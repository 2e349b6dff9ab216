-- Sample data: the same every time but for dates, which count from today.
SELECT setseed(0.42);
INSERT INTO couples (partner_one, partner_two, email)
SELECT one, two, lower(one || '.' || two) || '.' || n || '@example.org'
FROM (
    SELECT n,
        (ARRAY['Ana','Ben','Chloe','David','Emma','Felix','Grace','Hugo','Isla','Jonas','Kira','Liam','Mia','Noah','Olga','Paul'])[1 + n % 16] AS one,
        (ARRAY['Alex','Bianca','Chris','Dana','Eli','Fiona','Gabriel','Helen','Ivan','Julia','Karl','Lena','Marco','Nina','Oscar','Petra','Ruth'])[1 + n % 17] AS two
    FROM generate_series(1, 2300) AS n
) AS names;
INSERT INTO weddings (couple_id, wedding_date, venue, status, budget_cents)
SELECT n, current_date + 1 + (n * 7) % 170,
    (ARRAY['Lakeside Barn','Old Mill','Castle Garden','Harbour Hall','Vineyard Terrace','Town Library','Orangery','Forest Lodge'])[1 + n % 8],
    CASE WHEN n <= 2143 THEN 'active' WHEN n % 2 = 0 THEN 'completed' ELSE 'cancelled' END,
    1500000 + (n * 7919) % 4000000
FROM generate_series(1, 2300) AS n;
INSERT INTO vendors (name, trade, city, profile)
SELECT trade || ' ' || n, trade, city, jsonb_build_object('rating', 3 + n % 3, 'since', 2001 + n % 24, 'text', repeat(md5(n::text) || ' ', 6))
FROM (
    SELECT n,
        (ARRAY['Florist','Photographer','Caterer','Band','Baker','Hairdresser','Tailor','Driver'])[1 + n % 8] AS trade,
        (ARRAY['Lyon','Porto','Graz','Turin','Leeds','Ghent','Bremen'])[1 + n % 7] AS city
    FROM generate_series(1, 640) AS n
) AS v;
INSERT INTO timelines (wedding_id, title)
SELECT id, 'Day plan of wedding ' || id FROM weddings;
INSERT INTO timeline_items (timeline_id, vendor_id, starts_at, duration_minutes, title, notes)
SELECT t.id, 1 + (t.id * 13 + i * 29) % 640, w.wedding_date + interval '8 hours' + i * interval '25 minutes', 10 + (i * 5) % 45,
    (ARRAY['Flowers arrive','Hair and make-up','First look','Ceremony','Group photos','Aperitif','Speeches','Dinner','Cake','First dance','Fireworks','Shuttle home'])[1 + i % 12],
    md5(t.id || ':' || i) || ' ' || md5(i || ':' || t.id)
FROM timelines AS t JOIN weddings AS w ON w.id = t.wedding_id, generate_series(0, 35) AS i;
INSERT INTO guests (wedding_id, name, answer, meal)
SELECT w.id, 'Guest ' || g || ' of ' || w.id, (ARRAY['open','yes','yes','no'])[1 + (w.id + g) % 4], (ARRAY['meat','fish','vegetarian','vegan'])[1 + (w.id * g) % 4]
FROM weddings AS w, generate_series(1, 70) AS g;
INSERT INTO messages (wedding_id, vendor_id, sent_at, body)
SELECT w.id, 1 + (w.id * 31 + m) % 640, now() - (m * 5 || ' hours')::interval, 'About the ' || md5(w.id || '/' || m) || ': ' || repeat(md5(m || '-' || w.id) || ' ', 3)
FROM weddings AS w, generate_series(1, 20) AS m;
INSERT INTO payments (wedding_id, vendor_id, amount_cents, due_on, paid_at)
SELECT w.id, 1 + (w.id * 17 + p) % 640, 20000 + (w.id * p * 37) % 300000, w.wedding_date - p * 7, CASE WHEN p % 3 = 0 THEN now() END
FROM weddings AS w, generate_series(1, 6) AS p;
